// Preloaded into a server: while the file that SLOW_SYNC names exists, syncs of files do not come back.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_while_it_is_there(void) {
    const char *flag = getenv("SLOW_SYNC");
    while (flag && access(flag, F_OK) == 0) usleep(10000);
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_while_it_is_there();
    return real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_while_it_is_there();
    return real(fd);
}
