import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.Random;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;

/** The stock client moves bytes: commands come one a line, and each is answered by bytes (or calls) and nanoseconds. */
public class Streams {
    private static final int PIECE = 1 << 20;
    private static final int PAGE = 4 << 10;

    public static void main(String[] arguments) throws Exception {
        FileSystem fs = FileSystem.get(new URI(arguments[0]), new Configuration());
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split(" ");
            Path path = new Path(words[1]);
            long start = System.nanoTime();
            long done;
            switch (words[0]) {
                case "write": done = write(fs, path, Long.parseLong(words[2]) << 20, Short.parseShort(words[3])); break;
                case "read": done = read(fs, path); break;
                case "pread": done = pread(fs, path, Integer.parseInt(words[2])); break;
                case "delete": done = fs.delete(path, true) ? 1 : 0; break;
                default: throw new IllegalArgumentException(line);
            }
            System.out.println(done + " " + (System.nanoTime() - start));
            System.out.flush();
        }
    }

    private static long write(FileSystem fs, Path path, long bytes, short replication) throws Exception {
        byte[] piece = new byte[PIECE];
        for (int index = 0; index < PIECE; index++) {
            piece[index] = (byte) (index * 31 % 251);
        }
        try (FSDataOutputStream out = fs.create(path, true, 64 << 10, replication, 128L << 20)) {
            for (long left = bytes; left > 0; left -= PIECE) {
                out.write(piece, 0, (int) Math.min(left, PIECE));
            }
        }
        return bytes;
    }

    private static long read(FileSystem fs, Path path) throws Exception {
        byte[] piece = new byte[PIECE];
        long read = 0;
        try (FSDataInputStream in = fs.open(path)) {
            for (int bytes = in.read(piece); bytes >= 0; bytes = in.read(piece)) {
                read += bytes;
            }
        }
        return read;
    }

    private static long pread(FileSystem fs, Path path, int seconds) throws Exception {
        byte[] page = new byte[PAGE];
        long pages = fs.getFileStatus(path).getLen() / PAGE;
        long end = System.nanoTime() + seconds * 1_000_000_000L;
        long reads = 0;
        Random random = new Random(1);
        try (FSDataInputStream in = fs.open(path)) {
            while (System.nanoTime() < end) {
                in.readFully((random.nextLong() >>> 1) % pages * PAGE, page);
                reads++;
            }
        }
        return reads;
    }
}
