package steadfs;

import java.io.IOException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.contract.AbstractFSContract;

/** What the server under test promises to Hadoop's contract tests. */
public final class ExternalContract extends AbstractFSContract {
  public ExternalContract(Configuration conf) {
    super(Endpoint.on(conf));
    addConfResource("contract/steadfs.xml");
  }

  @Override
  public FileSystem getTestFileSystem() throws IOException {
    return FileSystem.get(Endpoint.uri(), getConf());
  }

  @Override
  public String getScheme() {
    return Endpoint.uri().getScheme();
  }

  @Override
  public Path getTestPath() {
    return new Path("/test");
  }
}
