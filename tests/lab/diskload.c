// diskload write DIR SECONDS [FIRST [patient]] | verify DIR LAST
// Writes records of 4 and 64 KiB with content that follows from their number, syncs each, and then says
// "ACK number". verify reads back every record up to the given number.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char buffer[65536], want[65536];

static size_t fill(char *b, uint64_t n) {
    size_t bytes = n % 4 == 3 ? 65536 : 4096;
    uint64_t x = n * 0x9e3779b97f4a7c15ull + 1;
    for (size_t i = 0; i < bytes; i += 8) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        memcpy(b + i, &x, 8);
    }
    return bytes;
}

// Records lie in 32 slots of 4 MiB each file, 64 files, written round and round.
static void place(const char *dir, uint64_t n, char *path, off_t *offset) {
    snprintf(path, 300, "%s/records.%d", dir, (int)(n % 8));
    *offset = (off_t)((n / 8) % 512) * 65536;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static int fail(const char *what, uint64_t n) {
    printf("FAIL %s record %llu: %s\n", what, (unsigned long long)n, strerror(errno));
    fflush(stdout);
    return 1;
}

// Writes one record and syncs it. Returns what failed.
static const char *put(const char *path, off_t offset, uint64_t n) {
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    if (fd < 0) return "open";
    size_t bytes = fill(buffer, n);
    const char *failed = NULL;
    if (pwrite(fd, buffer, bytes, offset) != (ssize_t)bytes) failed = "write";
    else if (fsync(fd)) failed = "fsync";
    int why = errno;
    if (close(fd) && !failed) return "close";
    errno = why;
    return failed;
}

int main(int argc, char **argv) {
    char path[300];
    off_t offset;
    if (argc < 4) return 2;
    if (!strcmp(argv[1], "write")) {
        double end = now() + atof(argv[3]);
        for (uint64_t n = argc > 4 ? strtoull(argv[4], 0, 10) : 0; now() < end; n++) {
            place(argv[2], n, path, &offset);
            // With `patient`: a full disk may be given room, and the record is written again, as by a hypervisor that paused its
            // machine.
            const char *failed;
            int told = 0;
            while ((failed = put(path, offset, n))) {
                if (errno != ENOSPC || argc < 6 || now() >= end) return fail(failed, n);
                if (!told++) printf("FULL %llu\n", (unsigned long long)n), fflush(stdout);
                usleep(200000);
            }
            printf("ACK %llu\n", (unsigned long long)n);
            fflush(stdout);
        }
        return 0;
    }
    uint64_t last = strtoull(argv[3], 0, 10);
    // Older ones are overwritten, and so may be 512 more: the writer may have gone on after the number was read.
    uint64_t first = last >= 4095 ? last - 3583 : 0;
    for (uint64_t n = first; n <= last; n++) {
        place(argv[2], n, path, &offset);
        int fd = open(path, O_RDONLY);
        if (fd < 0) return fail("open to verify", n);
        size_t bytes = fill(want, n);
        if (pread(fd, buffer, bytes, offset) != (ssize_t)bytes) return fail("short read of", n);
        if (memcmp(buffer, want, bytes)) return fail("content of", n);
        close(fd);
    }
    printf("VERIFIED %llu to %llu\n", (unsigned long long)first, (unsigned long long)last);
    return 0;
}
