/* Locks and unlocks ranges of a file, as its standard input says, one command a line:
 *   try|wait|test r|w FIRST LENGTH      free FIRST LENGTH      die
 * Answers each with one line: OK, NO, FREE or HELD. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0666) : -1;
    char line[200], verb[20], kind[4];
    if (fd < 0) {
        printf("FAIL open: %s\n", strerror(errno));
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("READY\n");
    while (fgets(line, sizeof line, stdin)) {
        struct flock l = {.l_whence = SEEK_SET};
        long long first = 0, length = 0;
        if (sscanf(line, "%19s", verb) != 1) continue;
        if (!strcmp(verb, "die")) _exit(0);
        if (!strcmp(verb, "free")) {
            sscanf(line, "%*s %lld %lld", &first, &length);
            l.l_type = F_UNLCK;
        } else {
            sscanf(line, "%*s %3s %lld %lld", kind, &first, &length);
            l.l_type = kind[0] == 'w' ? F_WRLCK : F_RDLCK;
        }
        l.l_start = first;
        l.l_len = length;
        if (!strcmp(verb, "test")) {
            if (fcntl(fd, F_GETLK, &l)) printf("FAIL test: %s\n", strerror(errno));
            else printf(l.l_type == F_UNLCK ? "FREE %s" : "HELD %s", line);
            continue;
        }
        if (!fcntl(fd, !strcmp(verb, "wait") ? F_SETLKW : F_SETLK, &l)) printf("OK %s", line);
        else if (errno == EAGAIN || errno == EACCES) printf("NO %s", line);
        else printf("FAIL %s: %s\n", verb, strerror(errno));
    }
    return 0;
}
