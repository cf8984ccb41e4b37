// nfsload URL OPERATION BLOCK_BYTES DEPTH SECONDS FILE_BYTES STABLE NAMES
// Load on one file, or on names in its folder, over NFSv3 by libnfs, without the kernel's cache.
// URL: nfs://address/export/file?nfsport=..&mountport=..
// OPERATION: write read randwrite randread mixed (70 % of them reads), getattr and lookup of the file, create and unlink of
// names beside it that begin with NAMES (unlink removes what create made).
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

// The fields of a handle in libnfs, which its headers leave out.
struct nfs_fh { int len; char *val; };

#define LATENCIES_MAX 4000000

static struct rpc_context *rpc;
static struct nfs_fh3 file, folder;
static char *name, *prefix;
static long block, depth, file_bytes;
static enum { READ, WRITE, MIXED, GETATTR, LOOKUP, CREATE, UNLINK } operation;
static int randomly, stable, in_flight, committed, finished;
static uint64_t done, bytes, position, seed = 88172645463325252ull, names;
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

struct call { double begun; int writes; char name[32]; };
static void submit(struct call *call);

static void answered(struct rpc_context *r, int status, void *data, void *private) {
    struct call *call = private;
    (void)r;
    in_flight--;
    if (status != RPC_STATUS_SUCCESS) fail("rpc", status);
    // Each result begins with its status.
    int answer = *(int *)data;
    if (operation == UNLINK && answer == NFS3ERR_NOENT) finished = 1;
    else if (answer) fail("answer", answer);
    else {
        if (operation == READ || (operation == MIXED && !call->writes)) bytes += ((READ3res *)data)->READ3res_u.resok.count;
        if (call->writes) bytes += ((WRITE3res *)data)->WRITE3res_u.resok.count;
        double t = now();
        if (done < LATENCIES_MAX) latency[done] = t - call->begun;
        done++;
    }
    if (now() < end && !finished) submit(call);
}

static void submit(struct call *call) {
    uint64_t offset = randomly ? next_random() % (file_bytes / block) * block : position;
    position = position + 2 * block > (uint64_t)file_bytes ? 0 : position + block;
    call->begun = now();
    call->writes = operation == WRITE || (operation == MIXED && next_random() % 10 < 3);
    in_flight++;
    int rc = 0;
    if (call->writes) {
        WRITE3args a = {.file = file, .offset = offset, .count = block, .stable = stable};
        a.data.data_len = block;
        a.data.data_val = buffer;
        rc = rpc_nfs3_write_async(rpc, answered, &a, call);
    } else if (operation == READ || operation == MIXED) {
        READ3args a = {.file = file, .offset = offset, .count = block};
        rc = rpc_nfs3_read_async(rpc, answered, &a, call);
    } else if (operation == GETATTR) {
        GETATTR3args a = {.object = file};
        rc = rpc_nfs3_getattr_async(rpc, answered, &a, call);
    } else if (operation == LOOKUP) {
        LOOKUP3args a = {.what = {.dir = folder, .name = name}};
        rc = rpc_nfs3_lookup_async(rpc, answered, &a, call);
    } else {
        snprintf(call->name, sizeof call->name, "%.10s-%lu", prefix, (unsigned long)names++);
        diropargs3 where = {.dir = folder, .name = call->name};
        if (operation == CREATE) {
            CREATE3args a = {.where = where, .how = {.mode = UNCHECKED}};
            rc = rpc_nfs3_create_async(rpc, answered, &a, call);
        } else {
            REMOVE3args a = {.object = where};
            rc = rpc_nfs3_remove_async(rpc, answered, &a, call);
        }
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

static struct nfs_fh3 handle_of(struct nfs_context *nfs, const char *path, int flags) {
    struct nfsfh *opened;
    if (nfs_open(nfs, path, flags, &opened) && (flags == O_RDONLY || nfs_creat(nfs, path, 0644, &opened))) {
        fprintf(stderr, "nfsload: %s: %s\n", path, nfs_get_error(nfs));
        exit(1);
    }
    struct nfs_fh *fh = nfs_get_fh(opened);
    struct nfs_fh3 handle = {.data = {.data_len = fh->len, .data_val = fh->val}};
    return handle;
}

int main(int argc, char **argv) {
    if (argc < 9) return 2;
    struct nfs_context *nfs = nfs_init_context();
    struct nfs_url *url = nfs_parse_url_full(nfs, argv[1]);
    if (!url || nfs_mount(nfs, url->server, url->path)) { fprintf(stderr, "nfsload: %s\n", nfs_get_error(nfs)); return 1; }
    file = handle_of(nfs, url->file, O_RDWR);
    folder = handle_of(nfs, "/", O_RDONLY);
    name = url->file[0] == '/' ? url->file + 1 : url->file;
    rpc = nfs_get_rpc_context(nfs);
    const char *op = argv[2];
    operation = !strcmp(op, "getattr") ? GETATTR : !strcmp(op, "lookup") ? LOOKUP : !strcmp(op, "create") ? CREATE :
        !strcmp(op, "unlink") ? UNLINK : !strcmp(op, "mixed") ? MIXED : strstr(op, "write") ? WRITE : READ;
    randomly = operation == MIXED || strstr(op, "rand");
    block = atol(argv[3]);
    depth = atol(argv[4]);
    file_bytes = atol(argv[6]);
    stable = atoi(argv[7]);
    prefix = argv[8];
    buffer = malloc(block);
    for (long i = 0; i < block; i++) buffer[i] = next_random();
    latency = malloc(LATENCIES_MAX * sizeof *latency);
    struct call *calls = calloc(depth, sizeof *calls);
    double begun = now();
    end = begun + atof(argv[5]);
    for (long i = 0; i < depth; i++) submit(&calls[i]);
    while (in_flight) turn();
    if (operation == WRITE && !stable) {
        COMMIT3args c = {.file = file};
        rpc_nfs3_commit_async(rpc, commit_answered, &c, 0);
        while (!committed) turn();
    }
    double took = now() - begun;
    size_t n = done < LATENCIES_MAX ? done : LATENCIES_MAX;
    qsort(latency, n, sizeof *latency, compare);
    printf("{\"ops\": %lu, \"bytes\": %lu, \"ops_per_s\": %.0f, \"mb_per_s\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (unsigned long)done, (unsigned long)bytes, done / took, bytes / took / 1e6,
           n ? latency[n / 2] * 1e3 : 0, n ? latency[n * 99 / 100] * 1e3 : 0);
    return 0;
}
