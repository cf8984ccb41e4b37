/* The C client against an ensemble: watches, a multi, authentication, and the death of the leader under it.
 * client HOSTS: prints "ready", waits for a line on standard input while the leader is killed, and goes on. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define NEED(what) do { int rc_ = (what); if (rc_ != ZOK) { fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #what, zerror(rc_)); exit(1); } } while (0)
#define EXPECT(what) do { if (!(what)) { fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); exit(1); } } while (0)

static atomic_int connected, changed, created, expired, authed;

static void session(zhandle_t *zh, int type, int state, const char *path, void *ctx) {
    (void)zh; (void)path; (void)ctx;
    if (type == ZOO_SESSION_EVENT && state == ZOO_CONNECTED_STATE) connected++;
    if (type == ZOO_SESSION_EVENT && state == ZOO_EXPIRED_SESSION_STATE) expired++;
}
static void node(zhandle_t *zh, int type, int state, const char *path, void *ctx) {
    (void)zh; (void)state; (void)path; (void)ctx;
    if (type == ZOO_CHANGED_EVENT) changed++;
    if (type == ZOO_CREATED_EVENT) created++;
}
static void auth_done(int rc, const void *data) { (void)data; authed = rc == ZOK ? 1 : -1; }
static int until(atomic_int *what, int value) {
    for (int i = 0; i < 500 && *what < value; i++) usleep(20000);
    return *what >= value;
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    zoo_set_debug_level(ZOO_LOG_LEVEL_ERROR);
    zhandle_t *zh = zookeeper_init(argv[1], session, 10000, 0, 0, 0);
    EXPECT(zh && until(&connected, 1));
    NEED(zoo_add_auth(zh, "digest", "u:p", 3, auth_done, 0));
    EXPECT(until(&authed, 1));
    char name[128], data[64];
    int length = sizeof data;
    struct Stat stat;
    NEED(zoo_create(zh, "/c-client", "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, name, sizeof name));
    NEED(zoo_create(zh, "/c-client/mine", "x", 1, &ZOO_CREATOR_ALL_ACL, 0, name, sizeof name));
    NEED(zoo_create(zh, "/c-client/e-", "x", 1, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL | ZOO_SEQUENCE, name, sizeof name));
    EXPECT(!strcmp(name, "/c-client/e-0000000001"));
    NEED(zoo_wget(zh, "/c-client", node, 0, data, &length, &stat));
    EXPECT(zoo_wexists(zh, "/c-client/later", node, 0, &stat) == ZNONODE);

    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    char made[64];
    zoo_check_op_init(&ops[0], "/c-client", 0);
    zoo_create_op_init(&ops[1], "/c-client/later", "m", 1, &ZOO_OPEN_ACL_UNSAFE, 0, made, sizeof made);
    zoo_set_op_init(&ops[2], "/c-client", "y", 1, 0, &stat);
    NEED(zoo_multi(zh, 3, ops, results));
    EXPECT(until(&changed, 1) && until(&created, 1));
    zoo_delete_op_init(&ops[0], "/c-client/later", -1);
    zoo_check_op_init(&ops[1], "/c-client", 0);
    EXPECT(zoo_multi(zh, 2, ops, results) == ZBADVERSION);
    EXPECT(zoo_exists(zh, "/c-client/later", 0, &stat) == ZOK);

    /* Set again, to be told after the reconnection. */
    length = sizeof data;
    NEED(zoo_wget(zh, "/c-client", node, 0, data, &length, &stat));
    printf("ready\n");
    fflush(stdout);
    EXPECT(getchar() != EOF);
    int rc = ZCONNECTIONLOSS;
    for (int i = 0; i < 500 && rc != ZOK; i++) {
        rc = zoo_set(zh, "/c-client", "z", 1, -1);
        if (rc != ZOK) usleep(20000);
    }
    NEED(rc);
    EXPECT(until(&changed, 2));
    NEED(zoo_exists(zh, name, 0, &stat));
    EXPECT(stat.ephemeralOwner == zoo_client_id(zh)->client_id && expired == 0);
    length = sizeof data;
    NEED(zoo_get(zh, "/c-client/mine", 0, data, &length, &stat));
    NEED(zookeeper_close(zh));
    printf("done\n");
    return 0;
}
