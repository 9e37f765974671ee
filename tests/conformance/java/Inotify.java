import java.io.IOException;
import java.io.OutputStream;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.Options.Rename;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.XAttrSetFlag;
import org.apache.hadoop.fs.permission.AclEntry;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DFSInotifyEventInputStream;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream.SyncFlag;
import org.apache.hadoop.hdfs.inotify.Event;
import org.apache.hadoop.hdfs.inotify.EventBatch;
import org.apache.hadoop.hdfs.inotify.MissingEventsException;

/**
 * What a stock inotify stream tells of each operation of a stock client, in lines that are the same for every server
 * that is right: times are `T`, and transactions are not shown.
 *
 * Inotify URL follow        operations, and what is told of each
 * Inotify URL from TXID     the paths of all events from a transaction on, and how far it is
 * Inotify URL now           the newest transaction
 */
public class Inotify {
    static final int BLOCK = 1024 * 1024;
    static DistributedFileSystem fs;
    static DFSInotifyEventInputStream stream;
    static long last;

    interface Work {
        void run() throws Exception;
    }

    public static void main(String[] args) throws Exception {
        Configuration conf = new Configuration();
        conf.setInt("dfs.blocksize", BLOCK);
        conf.setInt("dfs.replication", 1);
        conf.set("fs.permissions.umask-mode", "022");
        fs = (DistributedFileSystem) new Path(args[0]).getFileSystem(conf);
        switch (args[1]) {
            case "follow":
                follow();
                break;
            case "from":
                from(Long.parseLong(args[2]));
                break;
            default:
                System.out.println(fs.getClient().getNamenode().getCurrentEditLogTxid());
        }
    }

    static Path at(String name) {
        return new Path("/inotify/" + name);
    }

    static void write(OutputStream out, int bytes) throws IOException {
        out.write(new byte[bytes]);
    }

    static void file(String name, int bytes) throws IOException {
        try (OutputStream out = fs.create(at(name))) {
            write(out, bytes);
        }
    }

    static void follow() throws Exception {
        fs.mkdirs(new Path("/inotify"));
        file("before", 10);
        stream = fs.getInotifyEventStream();
        told("nothing", () -> { });
        told("mkdirs", () -> fs.mkdirs(at("d/e/f"), new FsPermission((short) 0750)));
        told("mkdirs again", () -> fs.mkdirs(at("d/e/f")));
        told("create in new folders", () -> file("n/m/f", 0));
        told("create and close", () -> file("f", 100));
        told("create over", () -> file("f", 200));
        told("create over nothing", () -> fs.create(at("g"), true).close());
        told("create without overwrite", () -> fs.create(at("g2"), false).close());
        told("create with a mode", () -> fs.create(at("h"), new FsPermission((short) 0600),
            EnumSet.of(CreateFlag.CREATE), 4096, (short) 1, BLOCK, null).close());
        told("several blocks", () -> file("big", 2 * BLOCK + 5));
        told("append", () -> {
            try (OutputStream out = fs.append(at("f"))) {
                write(out, 50);
            }
        });
        told("append to a new block", () -> {
            try (OutputStream out = fs.append(at("f"), EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null)) {
                write(out, 50);
            }
        });
        told("append nothing", () -> fs.append(at("f")).close());
        told("flush and sync", () -> {
            try (HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(at("s"))) {
                write(out, 10);
                out.hflush();
                write(out, 10);
                out.hsync(EnumSet.of(SyncFlag.UPDATE_LENGTH));
                write(out, 10);
            }
        });
        told("rename", () -> fs.rename(at("f"), at("f2")));
        told("rename into a folder", () -> fs.rename(at("f2"), at("d")));
        told("rename a folder", () -> fs.rename(at("d"), at("d2")));
        told("rename to where it is", () -> fs.rename(at("g"), at("g")));
        told("rename of nothing", () -> fs.rename(at("none"), at("x")));
        told("rename over", () -> fs.rename(at("g"), at("h"), Rename.OVERWRITE));
        told("rename with options", () -> fs.rename(at("h"), at("h2"), Rename.NONE));
        told("mode", () -> fs.setPermission(at("h2"), new FsPermission((short) 0640)));
        told("mode again", () -> fs.setPermission(at("h2"), new FsPermission((short) 0640)));
        told("owner", () -> fs.setOwner(at("h2"), "ann", null));
        told("group", () -> fs.setOwner(at("h2"), null, "staff"));
        told("owner and group", () -> fs.setOwner(at("h2"), "bob", "dev"));
        told("owner again", () -> fs.setOwner(at("h2"), "bob", "dev"));
        told("times", () -> fs.setTimes(at("h2"), 1000, 2000));
        told("mtime", () -> fs.setTimes(at("h2"), 3000, -1));
        told("atime", () -> fs.setTimes(at("h2"), -1, 4000));
        told("times again", () -> fs.setTimes(at("h2"), 3000, -1));
        told("times of a folder", () -> fs.setTimes(at("d2"), 5000, -1));
        told("replication", () -> fs.setReplication(at("h2"), (short) 2));
        told("replication again", () -> fs.setReplication(at("h2"), (short) 2));
        told("replication of a folder", () -> fs.setReplication(at("d2"), (short) 2));
        told("truncate at a block", () -> fs.truncate(at("big"), BLOCK));
        told("truncate to nothing", () -> fs.truncate(at("big"), 0));
        told("truncate to what it has", () -> fs.truncate(at("big"), 0));
        told("files to join", () -> {
            file("c0", BLOCK);
            file("c1", BLOCK);
            file("c2", 7);
        });
        told("concat", () -> fs.concat(at("c0"), new Path[] {at("c1"), at("c2")}));
        told("acl", () -> fs.setAcl(at("h2"), AclEntry.parseAclSpec("user::rwx,user:foo:rw-,group::r--,other::---", true)));
        told("acl changed", () -> fs.modifyAclEntries(at("h2"), AclEntry.parseAclSpec("user:bar:r--", true)));
        told("acl entries removed", () -> fs.removeAclEntries(at("h2"), AclEntry.parseAclSpec("user:foo", false)));
        told("acl removed", () -> fs.removeAcl(at("h2")));
        told("default acl", () -> fs.modifyAclEntries(at("d2"), AclEntry.parseAclSpec("default:user:foo:rwx", true)));
        told("made under a default acl", () -> fs.mkdirs(at("d2/sub")));
        told("default acl removed", () -> fs.removeDefaultAcl(at("d2")));
        told("mode with an acl", () -> {
            fs.modifyAclEntries(at("d2"), AclEntry.parseAclSpec("user:foo:rwx", true));
            fs.setPermission(at("d2"), new FsPermission((short) 0700));
        });
        told("attribute", () -> fs.setXAttr(at("h2"), "user.a", "v".getBytes(), EnumSet.of(XAttrSetFlag.CREATE)));
        told("attribute replaced", () -> fs.setXAttr(at("h2"), "user.a", "w".getBytes(), EnumSet.of(XAttrSetFlag.REPLACE)));
        told("attribute trusted", () -> fs.setXAttr(at("d2"), "trusted.b", new byte[0]));
        told("attribute removed", () -> fs.removeXAttr(at("h2"), "user.a"));
        told("quota", () -> fs.setQuota(at("d2"), 100, 1L << 40));
        told("storage policy", () -> fs.setStoragePolicy(at("d2"), "COLD"));
        told("storage policy unset", () -> fs.unsetStoragePolicy(at("d2")));
        told("read", () -> {
            long before = fs.getFileStatus(at("s")).getAccessTime();
            Thread.sleep(10);
            fs.open(at("s")).close();
            // A server may write access times down a moment later.
            while (fs.getFileStatus(at("s")).getAccessTime() == before) {
                Thread.sleep(10);
            }
        });
        told("list", () -> fs.listStatus(at("")));
        told("delete a file", () -> fs.delete(at("h2"), false));
        told("delete a tree", () -> fs.delete(at("d2"), true));
        told("delete nothing", () -> fs.delete(at("none"), true));
        told("a lease recovered", () -> {
            OutputStream out = fs.create(at("open"));
            write(out, 10);
            ((HdfsDataOutputStream) out).hflush();
            while (!fs.recoverLease(at("open"))) {
                Thread.sleep(100);
            }
        });
        told("a file in the middle of a truncate", () -> {
            file("t", 100);
            if (!fs.truncate(at("t"), 10)) {
                while (!fs.isFileClosed(at("t"))) {
                    Thread.sleep(100);
                }
            }
        });
        told("the end", () -> fs.delete(at(""), true));
        // Somebody who is nobody special may not follow.
        Configuration conf = new Configuration(fs.getConf());
        DistributedFileSystem other =
            (DistributedFileSystem) org.apache.hadoop.fs.FileSystem.get(fs.getUri(), conf, "nobody-special");
        try {
            other.getInotifyEventStream();
            System.out.println("nobody special: may follow");
        } catch (IOException denied) {
            System.out.println("nobody special: " + denied.getClass().getName());
        }
        System.out.println("behind: " + (stream.getTxidsBehindEstimate() >= 0));
        // A file that was taken from this client is still open: nobody shall try to close it.
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    /** Does something, and shows what is told of it: all that comes before a mark. */
    static void told(String what, Work work) throws Exception {
        String failed = "";
        try {
            work.run();
        } catch (Exception error) {
            failed = " (" + error.getClass().getSimpleName() + ")";
        }
        System.out.println("# " + what + failed);
        Path mark = new Path("/inotify-mark");
        fs.mkdirs(mark);
        while (true) {
            EventBatch batch = stream.poll();
            if (batch == null) {
                Thread.sleep(5);
                continue;
            }
            if (batch.getTxid() <= last) {
                System.out.println("transaction " + batch.getTxid() + " after " + last);
            }
            last = batch.getTxid();
            List<String> lines = new ArrayList<>();
            boolean end = false;
            for (Event event : batch.getEvents()) {
                String line = shown(event);
                end |= line.contains("/inotify-mark");
                lines.add(line);
            }
            if (end) {
                break;
            }
            System.out.println("  " + String.join(" + ", lines));
        }
        fs.delete(mark, true);
        // And the end of the mark.
        while (true) {
            EventBatch batch = stream.poll();
            if (batch == null) {
                Thread.sleep(5);
                continue;
            }
            last = batch.getTxid();
            String line = shown(batch.getEvents()[0]);
            if (line.contains("/inotify-mark")) {
                return;
            }
            System.out.println("  late: " + line);
        }
    }

    static String time(long at) {
        return at > 1_000_000 ? "T" : Long.toString(at);
    }

    static String shown(Event event) {
        switch (event.getEventType()) {
            case CREATE: {
                Event.CreateEvent made = (Event.CreateEvent) event;
                return "create " + made.getiNodeType() + " " + made.getPath() + " " + time(made.getCtime()) + " "
                    + made.getPerms() + " r" + made.getReplication() + " overwrite=" + made.getOverwrite() + " block="
                    + made.getDefaultBlockSize() + " link=" + made.getSymlinkTarget();
            }
            case CLOSE: {
                Event.CloseEvent closed = (Event.CloseEvent) event;
                return "close " + closed.getPath() + " " + closed.getFileSize() + " " + time(closed.getTimestamp());
            }
            case APPEND: {
                Event.AppendEvent append = (Event.AppendEvent) event;
                return "append " + append.getPath() + " new=" + append.toNewBlock();
            }
            case RENAME: {
                Event.RenameEvent moved = (Event.RenameEvent) event;
                return "rename " + moved.getSrcPath() + " " + moved.getDstPath() + " " + time(moved.getTimestamp());
            }
            case UNLINK: {
                Event.UnlinkEvent gone = (Event.UnlinkEvent) event;
                return "unlink " + gone.getPath() + " " + time(gone.getTimestamp());
            }
            case TRUNCATE: {
                Event.TruncateEvent cut = (Event.TruncateEvent) event;
                return "truncate " + cut.getPath() + " " + cut.getFileSize() + " " + time(cut.getTimestamp());
            }
            default: {
                Event.MetadataUpdateEvent changed = (Event.MetadataUpdateEvent) event;
                return "metadata " + changed.getMetadataType() + " " + changed.getPath() + " " + time(changed.getMtime())
                    + " " + time(changed.getAtime()) + " r" + changed.getReplication() + " " + changed.getOwnerName()
                    + ":" + changed.getGroupName() + " " + changed.getPerms() + " " + changed.getAcls() + " "
                    + changed.getxAttrs() + " removed=" + changed.isxAttrsRemoved();
            }
        }
    }

    static void from(long txid) throws Exception {
        stream = fs.getInotifyEventStream(txid);
        long end = fs.getClient().getNamenode().getCurrentEditLogTxid();
        long at = txid;
        while (at < end) {
            EventBatch batch;
            try {
                batch = stream.poll();
            } catch (MissingEventsException missing) {
                System.out.println("missing " + missing.getExpectedTxid() + " " + missing.getActualTxid());
                continue;
            }
            if (batch == null) {
                if (stream.getTxidsBehindEstimate() == 0) {
                    break;
                }
                continue;
            }
            at = batch.getTxid();
            for (Event event : batch.getEvents()) {
                System.out.println(batch.getTxid() + " " + shown(event));
            }
        }
    }
}
