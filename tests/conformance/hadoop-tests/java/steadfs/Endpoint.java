package steadfs;

import java.io.IOException;
import java.net.URI;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileContext;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.StorageType;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.apache.hadoop.security.UserGroupInformation;

/** The server under test: its addresses come from system properties, so that any class of Hadoop's tests finds it. */
public final class Endpoint {
  /** Small blocks give small files several; the server must allow them. */
  private static final int BLOCK_BYTES = 1024;

  private Endpoint() {}

  /** `host:port` of the namenode's RPC. */
  public static String rpc() {
    return System.getProperty("steadfs.rpc");
  }

  /** `host:port` of the namenode's HTTP. */
  public static String http() {
    return System.getProperty("steadfs.http");
  }

  public static URI hdfs() {
    return URI.create("hdfs://" + rpc());
  }

  /** The file system that suites of the `steadfs` package test: `hdfs` or `webhdfs`. */
  public static URI uri() {
    return System.getProperty("steadfs.scheme", "hdfs").equals("webhdfs") ? URI.create("webhdfs://" + http()) : hdfs();
  }

  public static Configuration conf() {
    return on(new HdfsConfiguration());
  }

  public static Configuration on(Configuration conf) {
    FileSystem.setDefaultUri(conf, uri());
    conf.setInt("dfs.blocksize", BLOCK_BYTES);
    conf.setInt("dfs.replication", 2);
    return conf;
  }

  public static FileSystem fs() throws IOException {
    return FileSystem.get(uri(), conf());
  }

  public static FileContext fileContext() throws IOException {
    return FileContext.getFileContext(uri(), conf());
  }

  /** The caller's home, made if it is missing: Hadoop's tests take it for granted. */
  public static Path home() throws IOException {
    Path home = fs().makeQualified(new Path("/user/" + UserGroupInformation.getCurrentUser().getShortUserName()));
    fs().mkdirs(home);
    return home;
  }

  /** Leaves the server as a new one is: empty, out of safe mode, its root plain. What it does not know is passed over. */
  public static void wipe() throws IOException {
    Configuration conf = new HdfsConfiguration();
    try (DistributedFileSystem fs = (DistributedFileSystem) FileSystem.newInstance(hdfs(), conf)) {
      fs.setSafeMode(HdfsConstants.SafeModeAction.SAFEMODE_LEAVE);
      Path root = new Path("/");
      // The root always has a bound of names.
      tried(() -> fs.setQuota(root, Long.MAX_VALUE - 1, HdfsConstants.QUOTA_RESET));
      for (StorageType type : StorageType.getTypesSupportingQuota()) {
        tried(() -> fs.setQuotaByStorageType(root, type, HdfsConstants.QUOTA_RESET));
      }
      tried(() -> fs.unsetErasureCodingPolicy(root));
      tried(() -> {
        for (var open : fs.getSnapshottableDirListing()) {
          for (var snapshot : fs.getSnapshotListing(open.getFullPath())) {
            fs.deleteSnapshot(open.getFullPath(), new Path(snapshot.getFullPath().toString()).getName());
          }
          fs.disallowSnapshot(open.getFullPath());
        }
      });
      for (FileStatus entry : fs.listStatus(root)) {
        fs.delete(entry.getPath(), true);
      }
      tried(() -> fs.removeAcl(root));
      tried(() -> fs.unsetStoragePolicy(root));
      tried(() -> {
        for (String name : fs.listXAttrs(root)) {
          fs.removeXAttr(root, name);
        }
      });
      fs.setOwner(root, UserGroupInformation.getCurrentUser().getShortUserName(), "supergroup");
      fs.setPermission(root, new FsPermission((short) 0755));
    }
  }

  private interface Step {
    void run() throws Exception;
  }

  private static void tried(Step step) {
    try {
      step.run();
    } catch (Exception unknown) {
      // the server has nothing of the kind to undo
    }
  }
}
