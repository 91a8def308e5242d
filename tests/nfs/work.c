/* A task of the tests: work NUMBER SECONDS STATUS [FILE]
 *
 * It waits until there is this file, on the machine that runs the tests.
 * Reports that it began and that it ended by UDP to the machine that runs the
 * tests, on a network that is never cut: what really happened, whatever any
 * record says. See effects() in tests/slurm/checker.py. */
#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void report(const char *what, char **argv, const char *status)
{
    char host[64] = "", address[32], text[256];
    const char *id = getenv("PYTF_TASK_ID"), *attempt = getenv("PYTF_ATTEMPT");
    gethostname(host, sizeof host - 1);
    snprintf(address, sizeof address, "10.98.%d.1", atoi(host + 1));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9999)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int length = snprintf(text, sizeof text, "%s %s %s %s %s %s", argv[1], what, id ? id : "?",
                          attempt ? attempt : "?", host, status);
    int out = socket(AF_INET, SOCK_DGRAM, 0);
    if (sendto(out, text, length, 0, (struct sockaddr *)&to, sizeof to) != length)
        _exit(99);
    close(out);
}

int main(int argc, char **argv)
{
    if (argc != 4 && argc != 5)
        return 98;
    double seconds = atof(argv[2]);
    struct timespec pause = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
    report("start", argv, "");
    const struct timespec moment = {0, 100000000};
    while (argc == 5 && access(argv[4], F_OK) != 0)
        nanosleep(&moment, NULL);
    nanosleep(&pause, NULL);
    printf("this is task %s\n", argv[1]);
    fflush(stdout);
    report("end", argv, argv[3]);
    return atoi(argv[3]);
}
