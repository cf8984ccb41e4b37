// nfsload URL write|read|randwrite|randread BLOCK_BYTES DEPTH SECONDS FILE_BYTES STABLE
// Load on one file over NFSv3 by libnfs, without the kernel's cache. URL: nfs://address/export/file?nfsport=..&mountport=..
// STABLE: 0 UNSTABLE with one COMMIT at the end, 2 FILE_SYNC. Prints one line of JSON.
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <nfsc/libnfs.h>
#include <nfsc/libnfs-raw.h>
#include <nfsc/libnfs-raw-nfs.h>

// What libnfs keeps of a handle; its headers leave the fields out.
struct nfs_fh { int len; char *val; };

#define LATENCIES_MAX 4000000

static struct rpc_context *rpc;
static struct nfs_fh3 file;
static long block, depth, file_bytes;
static int writing, randomly, stable, in_flight, committed;
static uint64_t done, bytes, position, seed = 88172645463325252ull;
static double end;
static char *buffer;
static float *latency;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t next_random(void) {
    seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
    return seed;
}

static void fail(const char *what, long code) {
    fprintf(stderr, "nfsload: %s: %ld %s\n", what, code, rpc ? rpc_get_error(rpc) : "");
    exit(1);
}

struct call { double begun; };
static void submit(struct call *call);

static void answered(struct rpc_context *r, int status, void *data, void *private) {
    struct call *call = private;
    (void)r;
    in_flight--;
    if (status != RPC_STATUS_SUCCESS) fail("rpc", status);
    if (writing) {
        WRITE3res *w = data;
        if (w->status) fail("write", w->status);
        bytes += w->WRITE3res_u.resok.count;
    } else {
        READ3res *w = data;
        if (w->status) fail("read", w->status);
        bytes += w->READ3res_u.resok.count;
    }
    double t = now();
    if (done < LATENCIES_MAX) latency[done] = t - call->begun;
    done++;
    if (t < end) submit(call);
}

static void submit(struct call *call) {
    uint64_t offset = randomly ? next_random() % (file_bytes / block) * block : position;
    position = position + 2 * block > (uint64_t)file_bytes ? 0 : position + block;
    call->begun = now();
    in_flight++;
    int rc;
    if (writing) {
        WRITE3args a = {.file = file, .offset = offset, .count = block, .stable = stable};
        a.data.data_len = block;
        a.data.data_val = buffer;
        rc = rpc_nfs3_write_async(rpc, answered, &a, call);
    } else {
        READ3args a = {.file = file, .offset = offset, .count = block};
        rc = rpc_nfs3_read_async(rpc, answered, &a, call);
    }
    if (rc) fail("send", rc);
}

static void commit_answered(struct rpc_context *r, int status, void *data, void *private) {
    (void)r; (void)private;
    if (status || ((COMMIT3res *)data)->status) fail("commit", status);
    committed = 1;
}

static void turn(void) {
    struct pollfd p = {.fd = rpc_get_fd(rpc), .events = rpc_which_events(rpc)};
    poll(&p, 1, 1000);
    if (rpc_service(rpc, p.revents) < 0) fail("connection", 0);
}

static int compare(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    if (argc < 8) return 2;
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_full(nfs, argv[1]);
    struct nfsfh *handle;
    if (!url || nfs_mount(nfs, url->server, url->path)) { fprintf(stderr, "nfsload: %s\n", nfs_get_error(nfs)); return 1; }
    if (nfs_open(nfs, url->file, O_RDWR, &handle) && nfs_creat(nfs, url->file, 0644, &handle)) {
        fprintf(stderr, "nfsload: %s\n", nfs_get_error(nfs));
        return 1;
    }
    rpc = nfs_get_rpc_context(nfs);
    struct nfs_fh *fh = nfs_get_fh(handle);
    file.data.data_len = fh->len;
    file.data.data_val = fh->val;
    writing = !!strstr(argv[2], "write");
    randomly = !!strstr(argv[2], "rand");
    block = atol(argv[3]);
    depth = atol(argv[4]);
    file_bytes = atol(argv[6]);
    stable = atoi(argv[7]);
    buffer = malloc(block);
    for (long i = 0; i < block; i++) buffer[i] = next_random();
    latency = malloc(LATENCIES_MAX * sizeof *latency);
    struct call *calls = calloc(depth, sizeof *calls);
    double begun = now();
    end = begun + atof(argv[5]);
    for (long i = 0; i < depth; i++) submit(&calls[i]);
    while (in_flight) turn();
    if (writing && !stable) {
        COMMIT3args c = {.file = file};
        rpc_nfs3_commit_async(rpc, commit_answered, &c, 0);
        while (!committed) turn();
    }
    double took = now() - begun;
    size_t n = done < LATENCIES_MAX ? done : LATENCIES_MAX;
    qsort(latency, n, sizeof *latency, compare);
    printf("{\"ops_per_s\": %.0f, \"mb_per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n", done / took, bytes / took / 1e6,
           n ? latency[n / 2] * 1e3 : 0, n ? latency[n * 99 / 100] * 1e3 : 0);
    return 0;
}
