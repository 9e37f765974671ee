import java.io.BufferedInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hdfs.DistributedFileSystem;

/**
 * Does on a cluster what it is told, through the stock client: as the program `steadfs-hand` does through ours, with the same
 * requests and answers.
 *
 * Hand URL
 */
public class Hand {
    static final int WORKERS = 16;
    static final long CLOSING_MILLIS = 60_000;
    static DistributedFileSystem fs;
    static final Map<String, FSDataOutputStream> OPEN = new ConcurrentHashMap<>();

    public static void main(String[] args) throws Exception {
        fs = (DistributedFileSystem) FileSystem.newInstance(new Path(args[0]).toUri(), new Configuration());
        ExecutorService workers = Executors.newFixedThreadPool(WORKERS);
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in, 1 << 16));
        OutputStream out = System.out;
        String line;
        while ((line = line(in)) != null) {
            String[] words = line.split(" ");
            byte[] payload = new byte[Integer.parseInt(words[1])];
            in.readFully(payload);
            workers.execute(() -> {
                String said = "ok";
                byte[] answer;
                try {
                    answer = work(Arrays.copyOfRange(words, 2, words.length), payload);
                } catch (Throwable error) {
                    said = "failed";
                    answer = error.toString().getBytes(StandardCharsets.UTF_8);
                }
                try {
                    synchronized (out) {
                        out.write((words[0] + " " + said + " " + answer.length + "\n").getBytes(StandardCharsets.UTF_8));
                        out.write(answer);
                        out.flush();
                    }
                } catch (IOException error) {
                    // Who told us to work is gone.
                    Runtime.getRuntime().halt(1);
                }
            });
        }
        Runtime.getRuntime().halt(0);
    }

    static String line(DataInputStream in) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        int next;
        while ((next = in.read()) != '\n') {
            if (next < 0) {
                return null;
            }
            line.write(next);
        }
        return line.toString(StandardCharsets.UTF_8);
    }

    static byte[] work(String[] words, byte[] payload) throws Exception {
        Path path = new Path(words[1]);
        switch (words[0]) {
            case "mkdir":
                require(fs.mkdirs(path), "not made");
                break;
            case "create":
                try (FSDataOutputStream stream = fs.create(path, true)) {
                    stream.write(payload);
                }
                break;
            case "append":
                try (FSDataOutputStream stream = fs.append(path)) {
                    stream.write(payload);
                }
                break;
            case "open":
                OPEN.put(words[1], fs.create(path, false));
                break;
            case "sync":
                opened(words[1], false).write(payload);
                opened(words[1], false).hsync();
                break;
            case "close":
                opened(words[1], true).close();
                break;
            case "truncate":
                fs.truncate(path, Long.parseLong(words[2]));
                until(() -> fs.isFileClosed(path), "is not closed");
                break;
            case "rename":
                require(fs.rename(path, new Path(words[2])), "not renamed");
                break;
            case "delete":
                require(fs.delete(path, true), "nothing was there");
                break;
            case "setx":
                fs.setXAttr(path, words[2], payload);
                break;
            case "unsetx":
                fs.removeXAttr(path, words[2]);
                break;
            case "xattrs":
                return xattrs(path);
            case "recover":
                OPEN.remove(words[1]);
                until(() -> fs.recoverLease(path), "is not recovered");
                break;
            case "walk":
                StringBuilder lines = new StringBuilder();
                walk(path, lines);
                return lines.toString().getBytes(StandardCharsets.UTF_8);
            case "read":
                try (FSDataInputStream stream = fs.open(path)) {
                    return stream.readAllBytes();
                }
            default:
                throw new IllegalArgumentException(words[0]);
        }
        return new byte[0];
    }

    static FSDataOutputStream opened(String path, boolean last) {
        FSDataOutputStream stream = last ? OPEN.remove(path) : OPEN.get(path);
        require(stream != null, "not open");
        return stream;
    }

    static void require(boolean what, String otherwise) {
        if (!what) {
            throw new IllegalStateException(otherwise);
        }
    }

    interface Condition {
        boolean holds() throws IOException;
    }

    static void until(Condition condition, String otherwise) throws Exception {
        long end = System.nanoTime() + CLOSING_MILLIS * 1_000_000;
        while (!condition.holds()) {
            require(System.nanoTime() < end, otherwise);
            Thread.sleep(20);
        }
    }

    static void walk(Path folder, StringBuilder lines) throws IOException {
        for (FileStatus status : fs.listStatus(folder)) {
            String path = status.getPath().toUri().getPath();
            if (status.isDirectory()) {
                lines.append("d 0 ").append(path).append('\n');
                walk(status.getPath(), lines);
            } else {
                lines.append(fs.isFileClosed(status.getPath()) ? "f " : "w ").append(status.getLen()).append(' ')
                    .append(path).append('\n');
            }
        }
    }

    static byte[] xattrs(Path path) throws IOException {
        StringBuilder lines = new StringBuilder();
        for (Map.Entry<String, byte[]> one : fs.getXAttrs(path).entrySet()) {
            lines.append(one.getKey()).append(' ');
            for (byte value : one.getValue()) {
                lines.append(String.format("%02x", value));
            }
            lines.append('\n');
        }
        return lines.toString().getBytes(StandardCharsets.UTF_8);
    }
}
