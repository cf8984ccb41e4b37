// history DIR SECONDS SEED
// Reads and writes 4 KiB blocks of DIR/registers past the page cache, and the size of DIR/size.N, and prints each
// operation as `H r|w REGISTER VALUE BEGIN_NS END_NS`. Values are unique: seed and counter.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS 12
#define BLOCK 4096
#define SIZES 2

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static int fail(const char *what) {
    printf("FAIL %s: %s\n", what, strerror(errno));
    fflush(stdout);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    uint64_t seed = strtoull(argv[3], 0, 10), x = seed * 0x9e3779b97f4a7c15ull + 1, count = 0;
    uint64_t end = now() + (uint64_t)atoi(argv[2]) * 1000000000ull;
    char path[300];
    uint64_t *block;
    if (posix_memalign((void **)&block, BLOCK, BLOCK)) return 2;
    snprintf(path, sizeof path, "%s/registers", argv[1]);
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT, 0644), sizes[SIZES];
    if (fd < 0) return fail("open");
    for (int i = 0; i < SIZES; i++) {
        snprintf(path, sizeof path, "%s/size.%d", argv[1], i);
        if ((sizes[i] = open(path, O_RDWR | O_CREAT, 0644)) < 0) return fail("open of a size");
    }
    while (now() < end) {
        x ^= x << 13; x ^= x >> 7; x ^= x << 17;
        int write = x >> 20 & 1, at = (x >> 24) % (BLOCKS + SIZES);
        uint64_t value = write ? seed << 24 | ++count : 0, begin = now();
        if (at >= BLOCKS) {
            struct stat st;
            if (write && ftruncate(sizes[at - BLOCKS], value)) return fail("truncate");
            if (!write && fstat(sizes[at - BLOCKS], &st)) return fail("stat");
            if (!write) value = st.st_size;
        } else if (write) {
            for (int i = 0; i < BLOCK / 8; i++) block[i] = value;
            if (pwrite(fd, block, BLOCK, (off_t)at * BLOCK) != BLOCK) return fail("write");
        } else {
            ssize_t n = pread(fd, block, BLOCK, (off_t)at * BLOCK);
            if (n != 0 && n != BLOCK) return fail("short read");
            value = n ? block[0] : 0;
            for (int i = 1; n && i < BLOCK / 8; i++)
                if (block[i] != value) { printf("FAIL torn block %d\n", at); fflush(stdout); return 1; }
        }
        printf("H %c %s%d %llu %llu %llu\n", write ? 'w' : 'r', at >= BLOCKS ? "s" : "b", at, (unsigned long long)value,
               (unsigned long long)begin, (unsigned long long)now());
        fflush(stdout);
    }
    return 0;
}
