/*
 * Loaded into a server, the time of day jumps: every JUMP_SECONDS it is right, ten minutes ahead, or ten minutes behind, beginning
 * where the environment's CLOCK_PHASE says. Clocks that only go forward are left alone, as they are when a machine's time is set.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define OFF 600
#define JUMP_SECONDS 7

static long off(void) {
    static long phase = -1;
    struct timespec now;
    if (phase < 0) {
        const char *given = getenv("CLOCK_PHASE");
        phase = given ? atol(given) : 0;
    }
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return ((now.tv_sec / JUMP_SECONDS + phase) % 3 - 1) * OFF;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int status = (int)syscall(SYS_clock_gettime, clock, time);
    if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += off();
    return status;
}

int gettimeofday(struct timeval *time, void *zone) {
    int status = (int)syscall(SYS_gettimeofday, time, zone);
    if (status == 0 && time) time->tv_sec += off();
    return status;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
