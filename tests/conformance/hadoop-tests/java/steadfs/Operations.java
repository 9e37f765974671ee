package steadfs;

import java.io.IOException;
import java.net.URI;
import java.security.PrivilegedExceptionAction;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.*;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.security.AccessControlException;
import org.apache.hadoop.security.UserGroupInformation;
import org.junit.Assert;
import org.junit.Before;
import org.junit.Test;

/** Hadoop's older suites, of `FileSystem` and `FileContext`. */
public final class Operations {
  private Operations() {}

  public static class FileContextMain extends FileContextMainOperationsBaseTest {
    @Override
    protected FileContextTestHelper createFileContextHelper() {
      return new FileContextTestHelper("/tmp/FileContextMain");
    }

    @Override
    @Before
    public void setUp() throws Exception {
      fc = Endpoint.fileContext();
      Endpoint.home();
      super.setUp();
    }

    @Override
    protected Path getDefaultWorkingDirectory() throws IOException {
      return Endpoint.home();
    }

    @Override
    protected boolean listCorruptedBlocksSupported() {
      return true;
    }

    @Override
    protected IOException unwrapException(IOException error) {
      return error instanceof RemoteException ? ((RemoteException) error).unwrapRemoteException() : error;
    }
  }

  public static class FileContextCreateMkdir extends FileContextCreateMkdirBaseTest {
    @Override
    protected FileContextTestHelper createFileContextHelper() {
      return new FileContextTestHelper("/tmp/FileContextCreateMkdir");
    }

    @Override
    @Before
    public void setUp() throws Exception {
      fc = Endpoint.fileContext();
      super.setUp();
    }
  }

  public static class FileContextPermission extends FileContextPermissionBase {
    private final FileContextTestHelper helper = new FileContextTestHelper("/tmp/FileContextPermission");

    @Override
    protected FileContextTestHelper getFileContextHelper() {
      return helper;
    }

    @Override
    protected FileContext getFileContext() throws Exception {
      return Endpoint.fileContext();
    }
  }

  public static class FileContextUri extends FileContextURIBase {
    @Override
    @Before
    public void setUp() throws Exception {
      fc1 = Endpoint.fileContext();
      fc2 = Endpoint.fileContext();
    }
  }

  public static class FileContextUtil extends FileContextUtilBase {
    @Override
    @Before
    public void setUp() throws Exception {
      fc = Endpoint.fileContext();
      super.setUp();
    }
  }

  public static class FileContextStatistics extends FCStatisticsBaseTest {
    @Before
    public void setUp() throws Exception {
      fc = Endpoint.fileContext();
      FileContext.clearStatistics();
      fc.mkdir(fileContextTestHelper.getTestRootPath(fc, "test"), FileContext.DEFAULT_PERM, true);
    }

    @Override
    protected void verifyReadBytes(FileSystem.Statistics statistics) {
      Assert.assertEquals(2L * blockSize, statistics.getBytesRead());
    }

    @Override
    protected void verifyWrittenBytes(FileSystem.Statistics statistics) {
      Assert.assertEquals(blockSize, statistics.getBytesWritten());
    }

    @Override
    protected URI getFsUri() {
      return Endpoint.uri();
    }
  }

  /** Some of these tests want to be refused, so an ordinary user runs them. */
  public static class FileSystemMain extends FSMainOperationsBaseTest {
    private static final String USER = "steadfs-test";
    private static final String GROUP = "users";

    public FileSystemMain() {
      super("/tmp/FileSystemMain");
    }

    @Override
    protected FileSystem createFileSystem() throws Exception {
      FileSystem superuser = Endpoint.fs();
      Path top = new Path("/tmp/FileSystemMain");
      superuser.mkdirs(top);
      superuser.setOwner(top, USER, GROUP);
      // The tests make folders in the root, too.
      superuser.setPermission(new Path("/"), new FsPermission((short) 0777));
      UserGroupInformation user = UserGroupInformation.createUserForTesting(USER, new String[] {GROUP});
      return user.doAs((PrivilegedExceptionAction<FileSystem>) () -> FileSystem.newInstance(Endpoint.uri(), Endpoint.conf()));
    }

    @Override
    protected Path getDefaultWorkingDirectory() {
      return new Path(Endpoint.uri() + "/user/" + USER);
    }

    /** HDFS refuses an ordinary user a path below a file, and tells a superuser what is wrong with it. */
    @Override
    @Test
    public void testMkdirsFailsForSubdirectoryOfExistingFile() throws Exception {
      try {
        super.testMkdirsFailsForSubdirectoryOfExistingFile();
      } catch (AccessControlException refused) {
        // the answer of HDFS
      }
    }
  }

  public static class FileSystemContract extends FileSystemContractBaseTest {
    private static final int SECONDS = 60;

    @Before
    public void setUp() throws Exception {
      Configuration conf = Endpoint.conf();
      conf.set("fs.permissions.umask-mode", TEST_UMASK);
      fs = FileSystem.newInstance(Endpoint.uri(), conf);
    }

    @Override
    protected String getDefaultWorkingDirectory() {
      try {
        return Endpoint.home().toUri().getPath();
      } catch (IOException error) {
        throw new java.io.UncheckedIOException(error);
      }
    }

    @Override
    protected int getGlobalTimeout() {
      return SECONDS * 1000;
    }
  }
}
