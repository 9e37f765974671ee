import java.io.IOException;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.stream.Stream;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.conf.Configured;
import org.apache.hadoop.fs.BlockLocation;
import org.apache.hadoop.fs.ContentSummary;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Options;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.QuotaUsage;
import org.apache.hadoop.fs.StorageType;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.protocol.ClientProtocol;
import org.apache.hadoop.hdfs.protocol.HdfsFileStatus;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.util.Tool;
import org.apache.hadoop.util.ToolRunner;

/** Calls that have to do with quotas and storage policies, one a run; prints what comes back, or which error. */
public class Quotas extends Configured implements Tool {
  private DistributedFileSystem fs;
  private ClientProtocol namenode;

  public static void main(String[] words) throws Exception {
    System.exit(ToolRunner.run(new Configuration(), new Quotas(), words));
  }

  @Override
  public int run(String[] words) throws Exception {
    Configuration conf = new Configuration(getConf());
    conf.setInt("dfs.client.block.write.locateFollowingBlock.retries", 1);
    conf.setInt("dfs.client.block.write.retries", 0);
    conf.setBoolean("fs.hdfs.impl.disable.cache", true);
    fs = (DistributedFileSystem) FileSystem.get(conf);
    namenode = fs.getClient().getNamenode();
    try {
      Object answer = call(words);
      if (answer != null) {
        System.out.println(answer);
      }
      return 0;
    } catch (IOException error) {
      boolean remote = error instanceof RemoteException;
      String name = remote ? ((RemoteException) error).getClassName() : error.getClass().getName();
      System.out.println(name + ": " + String.valueOf(error.getMessage()).split("\n")[0]);
      return 1;
    }
  }

  private Object call(String[] w) throws IOException {
    switch (w[0]) {
      case "put":
        short replication = w.length > 3 ? Short.parseShort(w[3]) : 1;
        return write(fs.create(new Path(w[1]), true, 4096, replication, 1 << 20), w[2]);
      case "create":
        return write(fs.createFile(new Path(w[1])).storagePolicyName(w[3]).replication((short) 1).build(), w[2]);
      case "append": return write(fs.append(new Path(w[1])), w[2]);
      case "append-block":
        return write(fs.append(new Path(w[1]), EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null), w[2]);
      case "truncate": return fs.truncate(new Path(w[1]), Long.parseLong(w[2]));
      case "concat":
        fs.concat(new Path(w[1]), Stream.of(w).skip(2).map(Path::new).toArray(Path[]::new));
        return null;
      case "rename": return namenode.rename(w[1], w[2]);
      case "replace": namenode.rename2(w[1], w[2], Options.Rename.OVERWRITE); return null;
      case "mkdirs": return namenode.mkdirs(w[1], new FsPermission((short) 0755), true);
      case "set-quota":
        StorageType type = w.length > 4 ? StorageType.parseStorageType(w[4]) : null;
        namenode.setQuota(w[1], Long.parseLong(w[2]), Long.parseLong(w[3]), type);
        return null;
      case "usage": return shown(namenode.getQuotaUsage(w[1]));
      case "summary":
        ContentSummary sums = namenode.getContentSummary(w[1]);
        return shown(sums) + " folders=" + sums.getDirectoryCount() + " files=" + sums.getFileCount()
            + " length=" + sums.getLength();
      case "set-policy": namenode.setStoragePolicy(w[1], w[2]); return null;
      case "unset-policy": namenode.unsetStoragePolicy(w[1]); return null;
      case "satisfy-policy": namenode.satisfyStoragePolicy(w[1]); return null;
      case "policy": return namenode.getStoragePolicy(w[1]);
      case "status": return "policy=" + namenode.getFileInfo(w[1]).getStoragePolicy();
      case "list":
        StringBuilder names = new StringBuilder();
        for (HdfsFileStatus entry : namenode.getListing(w[1], new byte[0], false).getPartialListing()) {
          names.append(entry.getLocalName()).append(" policy=").append(entry.getStoragePolicy()).append("; ");
        }
        return names;
      case "types":
        BlockLocation[] blocks = fs.getFileBlockLocations(new Path(w[1]), 0, Long.MAX_VALUE);
        return Arrays.toString(Stream.of(blocks[0].getStorageTypes()).map(String::valueOf).sorted().toArray());
      default: throw new IllegalArgumentException(w[0]);
    }
  }

  private static Object write(FSDataOutputStream out, String bytes) throws IOException {
    out.write(new byte[Integer.parseInt(bytes)]);
    out.close();
    return null;
  }

  private static String shown(QuotaUsage usage) {
    StringBuilder text = new StringBuilder("names=" + usage.getFileAndDirectoryCount() + "/" + usage.getQuota()
        + " space=" + usage.getSpaceConsumed() + "/" + usage.getSpaceQuota());
    for (StorageType type : StorageType.getTypesSupportingQuota()) {
      text.append(" " + type + "=" + usage.getTypeConsumed(type) + "/" + usage.getTypeQuota(type));
    }
    return text.toString();
  }
}
