package steadfs;

import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.function.BiConsumer;
import org.apache.hadoop.cli.CLITestHelperDFS;
import org.apache.hadoop.cli.util.CLICommand;
import org.apache.hadoop.cli.util.CLITestData;
import org.apache.hadoop.cli.util.CommandExecutor.Result;
import org.apache.hadoop.hdfs.DFSConfigKeys;

/** One of Hadoop's files of cases for its command line: what is typed, and what must be printed. */
final class Cases extends CLITestHelperDFS {
  private static final int LONGEST = 300;
  private final String file;

  private Cases(String file) {
    this.file = file;
  }

  /** Runs every case of the file and tells its name and outcome. */
  static void run(String file, BiConsumer<String, String> outcome) throws Exception {
    Endpoint.wipe();
    // A case gets a file to here, and fails if another run left one.
    Files.deleteIfExists(Paths.get("/tmp/file1"));
    Cases cases = new Cases(file);
    cases.setUp();
    cases.testAll();
    int number = 0;
    for (CLITestData test : cases.testsFromConfigFile) {
      String name = String.format("%03d %s", ++number, test.getTestDesc().trim());
      outcome.accept(name, test.getTestResult() ? "passed" : "failed: " + cases.why(test));
    }
  }

  private String why(CLITestData test) {
    StringBuilder text = new StringBuilder();
    for (var comparator : test.getComparatorData()) {
      if (!comparator.getTestResult()) {
        text.append("expected ").append(cut(expandCommand(comparator.getExpectedOutput())));
        text.append(" got ").append(cut(String.valueOf(comparator.getActualOutput()))).append("; ");
      }
    }
    return text.toString();
  }

  private static String cut(String text) {
    return text.length() > LONGEST ? text.substring(0, LONGEST) + "…" : text;
  }

  @Override
  public void setUp() throws Exception {
    super.setUp();
    org.apache.hadoop.fs.FileSystem.setDefaultUri(conf, Endpoint.hdfs());
    conf.set(DFSConfigKeys.DFS_NAMENODE_HTTP_ADDRESS_KEY, Endpoint.http());
    conf.setInt(DFSConfigKeys.DFS_REPLICATION_KEY, 1);
    if (file.startsWith("testDelete")) {
      conf.setLong("hadoop.shell.safely.delete.limit.num.files", 5);
    }
    username = System.getProperty("user.name");
  }

  @Override
  protected String getTestFile() {
    return file;
  }

  @Override
  protected String expandCommand(String command) {
    String namenode = Endpoint.hdfs().toString();
    return super.expandCommand(command.replace("NAMENODE", namenode).replace("#LF#", System.lineSeparator()));
  }

  @Override
  protected Result execute(CLICommand command) throws Exception {
    return command.getExecutor(Endpoint.hdfs().toString(), conf).executeCommand(command.getCmd());
  }
}
