// forward ADDRESS PORT: stdin and stdout to a TCP connection and back; ends when either side ends, as a
// connection without a program in between would (nc waits for both).
#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int copy(int from, int to) {
    static char b[65536];
    ssize_t n = read(from, b, sizeof b);
    if (n <= 0) return 0;
    for (ssize_t at = 0; at < n;) {
        ssize_t w = write(to, b + at, n - at);
        if (w <= 0) return 0;
        at += w;
    }
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &a.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(s, (struct sockaddr *)&a, sizeof a)) return 1;
    struct pollfd p[2] = {{0, POLLIN, 0}, {s, POLLIN, 0}};
    while (poll(p, 2, -1) > 0) {
        if (p[0].revents && !copy(0, s)) return 0;
        if (p[1].revents && !copy(s, 1)) return 0;
    }
    return 0;
}
