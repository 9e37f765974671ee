import java.io.IOException;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.nio.file.StandardCopyOption;
import org.apache.flink.core.fs.Path;
import org.apache.flink.core.fs.RecoverableFsDataOutputStream;
import org.apache.flink.core.fs.RecoverableFsDataOutputStream.Committer;
import org.apache.flink.core.fs.RecoverableWriter;
import org.apache.flink.core.fs.RecoverableWriter.CommitRecoverable;
import org.apache.flink.core.fs.RecoverableWriter.ResumeRecoverable;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.runtime.fs.hdfs.HadoopFileSystem;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;

/**
 * What Flink's file sink does with its recoverable writer, in processes that are killed between its steps. What a
 * checkpoint would hold lies in a local file: how many lines there were, and the writer's own state.
 *
 * <pre>
 * write FILE STATE            writes lines for ever, with a checkpoint after every thousand
 * resume FILE STATE LINES     goes on from the checkpoint up to so many lines and is ready to commit, which STATE.commit tells
 * commit FILE STATE           commits what is ready; a second time too, as after a failure
 * </pre>
 */
public final class FlinkWriter {
  private static final int CHECKPOINT_LINES = 1000;

  public static void main(String[] args) throws Exception {
    Path file = new Path(args[1]);
    RecoverableWriter writer =
        new HadoopFileSystem(FileSystem.get(URI.create(args[1]), new Configuration())).createRecoverableWriter();
    switch (args[0]) {
      case "write":
        try (RecoverableFsDataOutputStream out = writer.open(file)) {
          write(out, writer, args[2], 0, Long.MAX_VALUE);
        }
        break;
      case "resume":
        ByteBuffer state = ByteBuffer.wrap(Files.readAllBytes(Paths.get(args[2])));
        long written = state.getLong();
        RecoverableFsDataOutputStream out = writer.recover(read(writer.getResumeRecoverableSerializer(), state));
        write(out, writer, args[2], written, Long.parseLong(args[3]));
        Committer ready = out.closeForCommit();
        save(args[2] + ".commit", 0, writer.getCommitRecoverableSerializer(), ready.getRecoverable());
        // The process ends here as if it were killed.
        Runtime.getRuntime().halt(0);
        break;
      default:
        ByteBuffer committed = ByteBuffer.wrap(Files.readAllBytes(Paths.get(args[2] + ".commit")));
        committed.getLong();
        CommitRecoverable recoverable = read(writer.getCommitRecoverableSerializer(), committed);
        writer.recoverForCommit(recoverable).commitAfterRecovery();
        writer.recoverForCommit(recoverable).commitAfterRecovery();
    }
  }

  private static void write(RecoverableFsDataOutputStream out, RecoverableWriter writer, String state, long from, long to)
      throws IOException {
    for (long line = from; line < to; line++) {
      out.write(String.format("line %010d%n", line).getBytes(StandardCharsets.UTF_8));
      if ((line + 1) % CHECKPOINT_LINES == 0) {
        save(state, line + 1, writer.getResumeRecoverableSerializer(), out.persist());
      }
    }
  }

  /** Whole or not at all, as a checkpoint is. */
  private static <T> void save(String name, long lines, SimpleVersionedSerializer<T> serializer, T recoverable)
      throws IOException {
    byte[] bytes = serializer.serialize(recoverable);
    ByteBuffer state = ByteBuffer.allocate(12 + bytes.length);
    state.putLong(lines).putInt(serializer.getVersion()).put(bytes);
    Files.write(Paths.get(name + ".new"), state.array());
    Files.move(Paths.get(name + ".new"), Paths.get(name), StandardCopyOption.ATOMIC_MOVE);
  }

  private static <T> T read(SimpleVersionedSerializer<T> serializer, ByteBuffer state) throws IOException {
    int version = state.getInt();
    byte[] bytes = new byte[state.remaining()];
    state.get(bytes);
    return serializer.deserialize(version, bytes);
  }
}
