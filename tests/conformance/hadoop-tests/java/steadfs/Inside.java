package steadfs;

import static org.mockito.ArgumentMatchers.any;
import static org.mockito.ArgumentMatchers.anyString;
import static org.mockito.Mockito.mock;
import static org.mockito.Mockito.when;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.PermissionStatus;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.HdfsConfiguration;
import org.apache.hadoop.hdfs.server.namenode.AclEntryStatusFormat;
import org.apache.hadoop.hdfs.server.namenode.AclFeature;
import org.apache.hadoop.hdfs.server.namenode.FSDirectory;
import org.apache.hadoop.hdfs.server.namenode.FSNamesystem;
import org.apache.hadoop.hdfs.server.namenode.INode;
import org.apache.hadoop.hdfs.server.namenode.INodeDirectory;
import org.apache.hadoop.hdfs.server.namenode.NameNode;
import org.apache.hadoop.hdfs.server.protocol.NamenodeProtocols;
import org.apache.hadoop.net.NetUtils;
import org.mockito.stubbing.Answer;

/**
 * What Hadoop's tests see when they look inside their namenode: an inode has the permission and the ACL that the endpoint
 * tells of it, and everything else is silent.
 */
public final class Inside {
  private Inside() {}

  public static NameNode namenode(NamenodeProtocols rpc) {
    FSNamesystem inside = namesystem();
    NameNode namenode = mock(NameNode.class);
    when(namenode.getRpcServer()).thenReturn(rpc);
    when(namenode.getNameNodeAddress()).thenReturn(NetUtils.createSocketAddr(Endpoint.rpc()));
    when(namenode.getHttpAddress()).thenReturn(NetUtils.createSocketAddr(Endpoint.http()));
    when(namenode.getNamesystem()).thenReturn(inside);
    return namenode;
  }

  public static FSNamesystem namesystem() {
    FSDirectory folder = mock(FSDirectory.class);
    Answer<INode> answer = call -> inode(call.getArgument(0));
    FSNamesystem namesystem = mock(FSNamesystem.class);
    try {
      when(folder.getINode(anyString())).thenAnswer(answer);
      when(folder.getINode(anyString(), any())).thenAnswer(answer);
    } catch (IOException never) {
      throw new AssertionError(never);
    }
    when(namesystem.getFSDirectory()).thenReturn(folder);
    return namesystem;
  }

  private static INode inode(String name) throws IOException {
    Configuration conf = new HdfsConfiguration();
    try (DistributedFileSystem fs = (DistributedFileSystem) DistributedFileSystem.newInstance(Endpoint.hdfs(), conf)) {
      Path path = new Path(name);
      FileStatus status = fs.getFileStatus(path);
      PermissionStatus permission = new PermissionStatus(status.getOwner(), status.getGroup(), status.getPermission());
      byte[] last = path.getName().getBytes(StandardCharsets.UTF_8);
      INodeDirectory inode = new INodeDirectory(1, last, permission, status.getModificationTime());
      if (status.hasAcl()) {
        inode.addAclFeature(new AclFeature(AclEntryStatusFormat.toInt(fs.getAclStatus(path).getEntries())));
      }
      return inode;
    }
  }
}
