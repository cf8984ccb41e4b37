// Curator's CuratorCache over a subtree: what it hears when nodes come, change and go, one line each. Cache.java HOSTS
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.cache.CuratorCache;
import org.apache.curator.framework.recipes.cache.CuratorCacheListener;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.retry.RetryForever;

public class Cache {
    static void await(ConcurrentLinkedQueue<String> heard, String line) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(20);
        while (!heard.contains(line)) {
            if (System.nanoTime() > end) {
                throw new IllegalStateException("not heard within 20 s: " + line + "; heard " + heard);
            }
            Thread.sleep(5);
        }
    }

    public static void main(String[] args) throws Exception {
        CuratorFramework client = CuratorFrameworkFactory.newClient(args[0], 15_000, 10_000, new RetryForever(100));
        client.start();
        if (!client.blockUntilConnected(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException("not connected within 20 s");
        }
        client.create().forPath("/cache", "top".getBytes());
        client.create().forPath("/beside", "not watched".getBytes());
        ConcurrentLinkedQueue<String> heard = new ConcurrentLinkedQueue<>();
        CountDownLatch ready = new CountDownLatch(1);
        CountDownLatch last = new CountDownLatch(1);
        CuratorCache cache = CuratorCache.build(client, "/cache");
        cache.listenable().addListener(CuratorCacheListener.builder().forInitialized(ready::countDown).forAll((type, before, after) -> {
            String path = (after == null ? before : after).getPath();
            String data = after == null ? "" : " " + new String(after.getData());
            heard.add(type + " " + path + data);
            if (path.equals("/cache/end")) {
                last.countDown();
            }
        }).build());
        cache.start();
        if (!ready.await(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the cache is not ready after 20 s");
        }
        // One after the other: the cache asks for a node's data when it hears of it, and would see what is newer by then.
        client.create().forPath("/cache/a", "1".getBytes());
        await(heard, "NODE_CREATED /cache/a 1");
        client.create().forPath("/cache/a/b", "2".getBytes());
        await(heard, "NODE_CREATED /cache/a/b 2");
        client.create().forPath("/cache/a/b/c", "3".getBytes());
        await(heard, "NODE_CREATED /cache/a/b/c 3");
        client.setData().forPath("/cache/a/b/c", "4".getBytes());
        await(heard, "NODE_CHANGED /cache/a/b/c 4");
        client.setData().forPath("/cache", "top again".getBytes());
        await(heard, "NODE_CHANGED /cache top again");
        client.setData().forPath("/beside", "still not".getBytes());
        client.delete().forPath("/cache/a/b/c");
        await(heard, "NODE_DELETED /cache/a/b/c");
        InterProcessMutex lock = new InterProcessMutex(client, "/lock");
        if (!lock.acquire(10, TimeUnit.SECONDS)) {
            throw new IllegalStateException("no lock within 10 s");
        }
        lock.release();
        client.create().forPath("/cache/end", new byte[0]);
        if (!last.await(20, TimeUnit.SECONDS)) {
            throw new IllegalStateException("the last event did not come within 20 s; heard " + heard);
        }
        heard.stream().sorted().forEach(line -> System.out.println("HEARD " + line));
        cache.close();
        client.close();
    }
}
