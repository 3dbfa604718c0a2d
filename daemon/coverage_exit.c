/* In the build that counts lines (scripts/coverage.sh) and in no other: tierd ends by _exit(), past what would write the
 * counters. Any thread. */
#include <gcov.h>
#include <sys/syscall.h>
#include <unistd.h>

void _exit(int status) {
    __gcov_dump();
    for (;;) syscall(SYS_exit_group, status);
}
