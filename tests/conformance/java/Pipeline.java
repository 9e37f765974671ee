package org.apache.hadoop.hdfs;

import java.io.BufferedReader;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Random;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.BlockLocation;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.ReadOption;
import org.apache.hadoop.hdfs.client.HdfsDataInputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream;
import org.apache.hadoop.hdfs.client.HdfsDataOutputStream.SyncFlag;
import org.apache.hadoop.hdfs.protocol.DatanodeInfo;
import org.apache.hadoop.hdfs.protocol.LocatedBlock;
import org.apache.hadoop.io.ElasticByteBufferPool;

/**
 * Works on a cluster as it is told, a line each: `VERB WORD... KEY=VALUE...`, where KEY=VALUE is configuration of the
 * client for this line alone. Answers one line: `ok WORDS` or `failed CLASS MESSAGE`. Between, a line `kill UUID...` asks
 * for the end of datanodes, and wants any line once they are gone.
 *
 * It lies in this package because only its classes see which datanodes a stream writes to.
 *
 * Pipeline URL
 */
public class Pipeline {
    static final int BLOCK = 1024 * 1024;
    static final int PACKET = 64 * 1024;
    static final BufferedReader LINES = new BufferedReader(new InputStreamReader(System.in));
    static String url;

    public static void main(String[] args) throws Exception {
        url = args[0];
        // The classes are there before anything is looked at.
        System.out.println("ok");
        String line;
        while ((line = LINES.readLine()) != null) {
            Configuration conf = new Configuration();
            conf.setInt("dfs.blocksize", BLOCK);
            conf.setInt("dfs.client-write-packet-size", PACKET);
            List<String> words = new ArrayList<>();
            for (String word : line.split(" ")) {
                int at = word.indexOf('=');
                if (at < 0) {
                    words.add(word);
                } else {
                    conf.set(word.substring(0, at), word.substring(at + 1));
                }
            }
            String answer;
            // Each line has clients of its own: nothing is remembered from one to the next.
            try (DistributedFileSystem fs = client(conf)) {
                answer = "ok " + run(fs, conf, words);
            } catch (Throwable error) {
                answer = "failed " + error.getClass().getName() + " " + String.valueOf(error.getMessage()).replace('\n', ' ');
                error.printStackTrace();
            }
            System.out.println(answer.trim());
        }
        Runtime.getRuntime().halt(0);
    }

    static DistributedFileSystem client(Configuration conf) throws IOException {
        return (DistributedFileSystem) FileSystem.newInstance(new Path(url).toUri(), conf);
    }

    static String run(DistributedFileSystem fs, Configuration conf, List<String> words) throws Exception {
        Path path = new Path(words.get(1));
        switch (words.get(0)) {
            case "write":
                return write(fs, path, Short.parseShort(words.get(2)), Boolean.parseBoolean(words.get(3)), words.get(4), false);
            case "append":
                return write(fs, path, Short.parseShort(words.get(2)), Boolean.parseBoolean(words.get(3)), words.get(4), true);
            case "lose":
                return lose(fs, conf, path);
            case "recover":
                return recover(fs, path, Integer.parseInt(words.get(2)));
            case "make":
                return make(fs, path, Integer.parseInt(words.get(2)), Short.parseShort(words.get(3)));
            case "all":
                readAll(fs, path, Integer.parseInt(words.get(2)));
                return words.get(2);
            case "grow":
                return grow(fs, conf, path);
            case "ways":
                return ways(fs, path, Integer.parseInt(words.get(2)), Integer.parseInt(words.get(3)));
            case "blocks":
                return blocks(fs, path);
            case "live":
                return live(fs);
            default:
                throw new IllegalArgumentException(words.get(0));
        }
    }

    /** The byte of a path at an offset: nothing repeats with blocks, packets or chunks. */
    static byte at(Path path, long offset) {
        long mixed = (offset + 1) * 0x9E3779B97F4A7C15L ^ path.getName().hashCode() * 0xC2B2AE3D27D4EB4FL;
        mixed ^= mixed >>> 29;
        return (byte) (mixed * 0xBF58476D1CE4E5B9L >>> 56);
    }

    static byte[] bytes(Path path, long from, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = at(path, from + i);
        }
        return bytes;
    }

    static void right(Path path, long from, byte[] found, int length, String how) {
        for (int i = 0; i < length; i++) {
            if (found[i] != at(path, from + i)) {
                throw new AssertionError(how + ": byte " + (from + i) + " of " + path + " is wrong");
            }
        }
    }

    static void equal(Object found, Object expected, String what) {
        if (!found.equals(expected)) {
            throw new AssertionError(what + ": expected " + expected + ", found " + found);
        }
    }

    static void readAll(FileSystem fs, Path path, int length) throws IOException {
        equal(fs.getFileStatus(path).getLen(), (long) length, "length of " + path);
        try (FSDataInputStream in = fs.open(path)) {
            byte[] found = new byte[length];
            in.readFully(found);
            right(path, 0, found, length, "read again");
            equal(in.read(), -1, "end of " + path);
        }
    }

    /**
     * A block and a half. Datanodes die in the first block's middle, later in it, in the second block, and before the close:
     * `positions` has those of each time, divided by `;`. Answers with the datanodes of the pipeline once the first are gone.
     */
    static String write(DistributedFileSystem fs, Path path, short replication, boolean flush, String positions,
            boolean append) throws Exception {
        int length = BLOCK * 3 / 2 + 77;
        int[] times = {BLOCK / 2, BLOCK * 3 / 4, BLOCK * 5 / 4, length};
        String[] rounds = positions.split(";");
        int round = 0;
        int done = 0;
        int nodes = 0;
        if (append) {
            done = 100_001;
            try (HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(path, true, 4096, replication, BLOCK)) {
                out.write(bytes(path, 0, done));
            }
            // A replica that the namenode has not heard of yet is not in the pipeline of the append.
            awaitReplicas(fs, path, replication);
        }
        HdfsDataOutputStream out =
            (HdfsDataOutputStream) (append ? fs.append(path) : fs.create(path, true, 4096, replication, BLOCK));
        DFSOutputStream stream = (DFSOutputStream) out.getWrappedStream();
        for (int turn = 1; done < length; turn++) {
            int some = Math.min(length - done, 30_011);
            out.write(bytes(path, done, some));
            done += some;
            if (flush && turn % 5 == 0) {
                out.hflush();
            }
            if (round < rounds.length && done >= times[round]) {
                if (!rounds[round].isEmpty()) {
                    kill(out, stream, rounds[round], flush, done);
                }
                round++;
            } else if (round == 1 && nodes == 0 && flush && turn % 5 == 0) {
                nodes = stream.getPipeline().length;
            }
        }
        out.close();
        readAll(fs, path, length);
        try (DistributedFileSystem other = client(new Configuration())) {
            readAll(other, path, length);
            equal(other.isFileClosed(path), true, "closed");
        }
        return nodes + "";
    }

    static void kill(HdfsDataOutputStream out, DFSOutputStream stream, String positions, boolean flush, int done)
            throws Exception {
        if (flush) {
            out.hflush();
        }
        DatanodeInfo[] pipeline = stream.getPipeline();
        while (pipeline == null || pipeline.length == 0) {
            // Without a flush nothing says that the pipeline is there yet.
            Thread.sleep(5);
            pipeline = stream.getPipeline();
        }
        List<String> nodes = new ArrayList<>();
        for (String position : positions.split(",")) {
            nodes.add(pipeline[Integer.parseInt(position)].getDatanodeUuid());
        }
        kill(nodes, flush ? done : 0);
    }

    static void kill(List<String> nodes, int flushed) throws IOException {
        System.out.println("kill " + String.join(" ", nodes) + " flushed=" + flushed);
        LINES.readLine();
    }

    /** A reader loses the datanode it reads from, twice, of a closed file and of one that is still written. */
    static String lose(DistributedFileSystem fs, Configuration conf, Path path) throws Exception {
        int length = BLOCK * 5 / 2;
        try (DistributedFileSystem other = client(conf);
                HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(path, true, 4096, (short) 3, BLOCK)) {
            out.write(bytes(path, 0, length));
            out.hflush();
            byte[] found = new byte[length];
            try (HdfsDataInputStream in = (HdfsDataInputStream) other.open(path)) {
                in.setReadahead(0L);
                in.readFully(found, 0, 1000);
                kill(Arrays.asList(in.getCurrentDatanode().getDatanodeUuid()), length);
                in.readFully(found, 1000, length - 1000);
                right(path, 0, found, length, "of a file that is written");
                equal(in.read(), -1, "end of what was flushed");
            }
            out.write(bytes(path, length, 1000));
        }
        readAll(fs, path, length + 1000);
        try (HdfsDataInputStream in = (HdfsDataInputStream) fs.open(path)) {
            byte[] found = new byte[length];
            in.readFully(found, 0, BLOCK + 1000);
            kill(Arrays.asList(in.getCurrentDatanode().getDatanodeUuid()), 0);
            in.readFully(found, BLOCK + 1000, length - BLOCK - 1000);
            right(path, 0, found, length, "of a closed file");
        }
        return "";
    }

    /** Takes a file from its writer; answers with how long it is now. */
    static String recover(DistributedFileSystem fs, Path path, int flushed) throws Exception {
        while (!fs.recoverLease(path)) {
            Thread.sleep(100);
        }
        int length = (int) fs.getFileStatus(path).getLen();
        if (length < flushed) {
            throw new AssertionError(flushed + " bytes were flushed, " + length + " are left");
        }
        readAll(fs, path, length);
        return length + "";
    }

    /** Waits until the namenode has heard of every replica: a file is complete before. */
    static void awaitReplicas(FileSystem fs, Path path, short replication) throws IOException, InterruptedException {
        while (!isEverywhere(fs.getFileBlockLocations(path, 0, Long.MAX_VALUE), replication)) {
            Thread.sleep(5);
        }
    }

    static boolean isEverywhere(BlockLocation[] blocks, short replication) throws IOException {
        for (BlockLocation block : blocks) {
            if (block.getHosts().length < replication) {
                return false;
            }
        }
        return true;
    }

    static String make(FileSystem fs, Path path, int length, short replication) throws IOException, InterruptedException {
        try (HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(path, true, 4096, replication, BLOCK)) {
            out.write(bytes(path, 0, length));
        }
        awaitReplicas(fs, path, replication);
        return blocks((DistributedFileSystem) fs, path);
    }

    /** `NAME:NODE,NODE` of each block. */
    static String blocks(DistributedFileSystem fs, Path path) throws IOException {
        List<String> told = new ArrayList<>();
        for (LocatedBlock block : fs.getClient().getLocatedBlocks(path.toUri().getPath(), 0).getLocatedBlocks()) {
            List<String> nodes = new ArrayList<>();
            for (DatanodeInfo node : block.getLocations()) {
                nodes.add(node.getDatanodeUuid());
            }
            told.add(block.getBlock().getBlockName() + ":" + String.join(",", nodes));
        }
        return String.join(" ", told);
    }

    static String live(DistributedFileSystem fs) throws IOException {
        List<String> nodes = new ArrayList<>();
        for (DatanodeInfo node : fs.getDataNodeStats(
                org.apache.hadoop.hdfs.protocol.HdfsConstants.DatanodeReportType.LIVE)) {
            nodes.add(node.getDatanodeUuid() + "@" + node.getXferPort() + "/" + node.getIpcPort());
        }
        return String.join(" ", nodes);
    }

    /** Every flush of odd many bytes is seen by others at once, and never a wrong byte behind it. */
    static String grow(DistributedFileSystem fs, Configuration conf, Path path) throws Exception {
        Random random = new Random(5);
        int length = BLOCK * 5 / 2;
        int flushes = 0;
        int seen;
        try (DistributedFileSystem other = client(conf);
                HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(path, true, 4096, (short) 3, BLOCK)) {
            Follower follower = new Follower(conf, path);
            int done = 0;
            while (done < length) {
                int some = Math.min(length - done, 1 + random.nextInt(random.nextBoolean() ? 700 : 200_000));
                out.write(bytes(path, done, some));
                done += some;
                boolean update = flushes % 7 == 3;
                if (update) {
                    out.hsync(EnumSet.of(SyncFlag.UPDATE_LENGTH));
                    equal(other.getFileStatus(path).getLen(), (long) done, "length that was synced");
                } else {
                    out.hflush();
                }
                flushes++;
                follower.flushed = done;
                try (HdfsDataInputStream in = (HdfsDataInputStream) other.open(path)) {
                    equal(in.getVisibleLength(), (long) done, "visible length");
                    int from = random.nextInt(done);
                    byte[] found = new byte[done - from];
                    in.readFully(from, found);
                    right(path, from, found, found.length, "flushed");
                    in.seek(done - 1);
                    equal((byte) in.read(), at(path, done - 1), "last byte");
                    equal(in.read(), -1, "behind what was flushed");
                }
                follower.check();
            }
            follower.end = true;
            follower.join();
            follower.check();
            seen = follower.opened;
        }
        readAll(fs, path, length);
        return flushes + " flushes, opened beside them " + seen + " times";
    }

    /** Reads beside the writer, again and again, at least what was flushed when it began. */
    static class Follower extends Thread {
        final DistributedFileSystem fs;
        final Path path;
        volatile int flushed;
        volatile boolean end;
        volatile Throwable failure;
        volatile int opened;

        Follower(Configuration conf, Path path) throws IOException {
            fs = client(conf);
            this.path = path;
            setDaemon(true);
            start();
        }

        @Override
        public void run() {
            byte[] found = new byte[BLOCK * 3];
            try {
                while (!end) {
                    int least = flushed;
                    try (FSDataInputStream in = fs.open(path)) {
                        int length = 0;
                        int some;
                        while ((some = in.read(found, length, found.length - length)) > 0) {
                            length += some;
                        }
                        right(path, 0, found, length, "beside the writer");
                        if (length < least) {
                            throw new AssertionError(least + " bytes were flushed, " + length + " are seen");
                        }
                    }
                    opened++;
                }
            } catch (Throwable error) {
                failure = error;
            }
        }

        void check() {
            if (failure != null) {
                throw new AssertionError(failure.toString(), failure);
            }
        }
    }

    /** All ways to read a file, `seeks` random ones among them. */
    static String ways(DistributedFileSystem fs, Path path, int length, int seeks) throws Exception {
        Random random = new Random(9);
        readAll(fs, path, length);
        try (HdfsDataInputStream in = (HdfsDataInputStream) fs.open(path)) {
            byte[] found = new byte[70_000];
            for (int i = 0; i < seeks; i++) {
                int from = random.nextInt(length);
                int some = Math.min(length - from, 1 + random.nextInt(i % 100 == 0 ? found.length : 600));
                in.seek(from);
                in.readFully(found, 0, some);
                right(path, from, found, some, "after a seek");
                equal(in.getPos(), (long) from + some, "position");
            }
            for (int i = 0; i < seeks / 10 + 5; i++) {
                int from = random.nextInt(length);
                int some = Math.min(length - from, 1 + random.nextInt(found.length));
                in.readFully(from, found, 0, some);
                right(path, from, found, some, "at a position");
            }
            for (int edge = BLOCK; edge < length; edge += BLOCK) {
                in.readFully(edge - 5, found, 0, 10);
                right(path, edge - 5, found, 10, "across blocks");
            }
            in.setReadahead(0L);
            in.setDropBehind(true);
            in.seek(1);
            in.readFully(found, 0, 5000);
            right(path, 1, found, 5000, "without readahead");
            in.unbuffer();
            in.readFully(found, 0, 5000);
            right(path, 5001, found, 5000, "after unbuffer");
            in.setReadahead(4L * BLOCK);
            in.setDropBehind(false);
            in.seek(BLOCK - 3);
            in.readFully(found, 0, 6);
            right(path, BLOCK - 3, found, 6, "with much readahead");
            in.setReadahead(null);
            in.setDropBehind(null);
            in.seek(0);
            java.nio.ByteBuffer direct = java.nio.ByteBuffer.allocateDirect(3000);
            while (direct.hasRemaining() && in.read(direct) > 0) { }
            direct.flip();
            byte[] copy = new byte[direct.remaining()];
            direct.get(copy);
            right(path, 0, copy, copy.length, "into a direct buffer");
            equal(copy.length, 3000, "bytes of a direct buffer");
            java.nio.ByteBuffer there = java.nio.ByteBuffer.allocate(3000);
            in.readFully(777, there);
            right(path, 777, there.array(), 3000, "into a buffer, at a position");
            in.seek(12);
            ElasticByteBufferPool pool = new ElasticByteBufferPool();
            java.nio.ByteBuffer lent = in.read(pool, 4000, EnumSet.of(ReadOption.SKIP_CHECKSUMS));
            copy = new byte[lent.remaining()];
            lent.get(copy);
            in.releaseBuffer(lent);
            right(path, 12, copy, copy.length, "without a copy");
            // A skip, another source, and the edges.
            in.seek(100);
            equal(in.skip(1000), 1000L, "skipped");
            equal((byte) in.read(), at(path, 1100), "byte after a skip");
            in.seekToNewSource(200);
            in.seek(200);
            equal((byte) in.read(), at(path, 200), "byte of another source");
            in.seek(length);
            equal(in.read(), -1, "end");
            equal(in.read(length, found, 0, 1), -1, "end, at a position");
            wants(EOFException.class, () -> in.seek(length + 1));
            wants(EOFException.class, () -> in.seek(-1));
            wants(EOFException.class, () -> in.readFully(length - 5, found, 0, 6));
        }
        // What this client writes is read by others.
        Path made = new Path(path.getParent(), "made-" + random.nextInt(1_000_000_000));
        try (HdfsDataOutputStream out = (HdfsDataOutputStream) fs.create(made, true, 4096, (short) 2, BLOCK)) {
            out.setDropBehind(true);
            out.write(bytes(made, 0, BLOCK + 9));
            out.hsync();
            out.write(bytes(made, BLOCK + 9, 1000));
        }
        try (DistributedFileSystem other = client(new Configuration())) {
            readAll(other, made, BLOCK + 1009);
        }
        fs.delete(made, false);
        DFSHedgedReadMetrics hedged = fs.getClient().getHedgedReadMetrics();
        return "hedged " + hedged.getHedgedReadOps() + " won " + hedged.getHedgedReadWins();
    }

    interface Work {
        void run() throws Exception;
    }

    static void wants(Class<?> error, Work work) {
        try {
            work.run();
        } catch (Exception found) {
            equal(found.getClass().getName(), error.getName(), "error");
            return;
        }
        throw new AssertionError("no " + error.getName());
    }
}
