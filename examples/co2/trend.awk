# The growth of CO2 at Mauna Loa, in ppm per year, from years that are drawn at random,
# with replacement. Each seed gives another draw (the bootstrap of statistics).
#
#     awk -v seed=7 -f trend.awk weekly.csv
BEGIN { FS = "," }
NR > 1 && $2 != "" {
    year = substr($1, 1, 4)
    if (!(year in weeks)) name[years++] = year
    time = year + (substr($1, 6, 2) - 1) / 12 + substr($1, 9, 2) / 365 - 1980
    weeks[year]++; t[year] += time; c[year] += $2; tt[year] += time * time; tc[year] += time * $2
}
# The same numbers in every awk: its own rand() differs from one to the next.
function random(below) { state = (state * 16807) % 2147483647; return state % below }
END {
    state = seed * 7919 + 12345
    for (draw = 0; draw < years; draw++) {
        y = name[random(years)]
        n += weeks[y]; st += t[y]; sc += c[y]; stt += tt[y]; stc += tc[y]
    }
    printf "%.4f\n", (n * stc - st * sc) / (n * stt - st * st)
}
