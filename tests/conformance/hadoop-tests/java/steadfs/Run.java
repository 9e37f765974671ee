package steadfs;

import java.io.PrintStream;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.engine.discovery.DiscoverySelectors;
import org.junit.platform.launcher.LauncherDiscoveryRequest;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;

/**
 * Runs suites one after the other: classes of tests, or files of command line cases. Prints a line a test as it ends, its
 * three fields parted by tabs: suite, test, outcome. What tests print themselves goes to standard error.
 */
public final class Run implements TestExecutionListener {
  private static final PrintStream OUT = System.out;
  private static final int LONGEST = 700;
  private final String suite;

  private Run(String suite) {
    this.suite = suite;
  }

  public static void main(String[] suites) throws Exception {
    System.setOut(System.err);
    for (String suite : suites) {
      Run run = new Run(suite);
      if (suite.endsWith(".xml")) {
        Cases.run(suite, run::tell);
        continue;
      }
      Endpoint.wipe();
      LauncherDiscoveryRequest request =
          LauncherDiscoveryRequestBuilder.request().selectors(DiscoverySelectors.selectClass(suite)).build();
      LauncherFactory.create().execute(request, run);
    }
    // Threads that a test left behind do not keep us.
    OUT.flush();
    Runtime.getRuntime().halt(0);
  }

  private void tell(String test, String outcome) {
    String line = outcome.replaceAll("\\s+", " ");
    line = line.length() > LONGEST ? line.substring(0, LONGEST) + "…" : line;
    OUT.println(suite + "\t" + test.replaceAll("\\s+", " ") + "\t" + line);
    OUT.flush();
  }

  @Override
  public void executionFinished(TestIdentifier test, TestExecutionResult result) {
    Throwable why = result.getThrowable().orElse(null);
    if (!test.isTest() && why == null) {
      return;
    }
    switch (result.getStatus()) {
      case SUCCESSFUL:
        tell(name(test), "passed");
        break;
      case ABORTED:
        tell(name(test), "skipped: " + why);
        break;
      default:
        tell(name(test), "failed: " + why);
    }
  }

  @Override
  public void executionSkipped(TestIdentifier test, String reason) {
    tell(name(test), "skipped: " + reason);
  }

  /** Parameterized tests have one name under each parameter, which is only in the identifier. */
  private static String name(TestIdentifier test) {
    String unique = test.getUniqueId();
    int parameter = unique.indexOf("/[test:%5B");
    if (parameter < 0) {
      return test.getDisplayName();
    }
    String text = unique.substring(parameter + "/[test:".length(), unique.indexOf(']', parameter));
    return text.replace("%5B", "[").replace("%5D", "]").replace("%3A", ":") + " " + test.getDisplayName();
  }
}
