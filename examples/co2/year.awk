# One year of CO2 at Mauna Loa: its mean, and how far it swings with the seasons.
#
#     awk -v year=1990 -f year.awk weekly.csv
#
# A week without a value is an error.
BEGIN { FS = ","; lowest = 1e9 }
substr($1, 1, 4) == year {
    if ($2 == "") { print "year.awk: no value for the week of " $1; failed = 1; exit 3 }
    sum += $2; weeks++
    if ($2 < lowest) lowest = $2
    if ($2 > highest) highest = $2
}
END {
    if (failed) exit 3
    printf "%d  mean %.1f ppm  swing %.1f ppm\n", year, sum / weeks, highest - lowest
}
