import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.PrivilegedExceptionAction;
import java.util.Arrays;
import java.util.Base64;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.security.UserGroupInformation;
import org.apache.hadoop.util.ExitUtil;
import org.apache.hadoop.util.Tool;
import org.apache.hadoop.util.ToolRunner;

/**
 * Hadoop's commands one after the other in one JVM, which takes seconds to start. A line of standard input is a command:
 * its standard input, user (either may be empty), class and arguments, each in Base64, with spaces between. The answer is a
 * line too: exit code, standard output and standard error, likewise. As processes of their own would, commands share no
 * file system that is open.
 */
public final class Runner {
  private static final ByteArrayOutputStream OUT = new ByteArrayOutputStream();
  private static final ByteArrayOutputStream ERR = new ByteArrayOutputStream();

  public static void main(String[] none) throws Exception {
    PrintStream answers = System.out;
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
    // Before any of Hadoop's classes keeps the streams that there were.
    System.setOut(new PrintStream(OUT, true, "UTF-8"));
    System.setErr(new PrintStream(ERR, true, "UTF-8"));
    ExitUtil.disableSystemExit();
    for (String line; (line = commands.readLine()) != null; ) {
      String[] coded = line.split(" ", -1);
      System.setIn(new ByteArrayInputStream(Base64.getDecoder().decode(coded[0])));
      String[] words = Arrays.stream(coded).skip(1).map(Runner::decoded).toArray(String[]::new);
      OUT.reset();
      ERR.reset();
      int code = run(words[0], words[1], Arrays.copyOfRange(words, 2, words.length));
      FileSystem.closeAll();
      answers.println(code + " " + encoded(OUT) + " " + encoded(ERR));
      answers.flush();
    }
  }

  private static int run(String user, String program, String[] arguments) {
    PrivilegedExceptionAction<Integer> action = () -> ToolRunner.run(new Configuration(), tool(program), arguments);
    try {
      return user.isEmpty() ? action.run() : UserGroupInformation.createRemoteUser(user).doAs(action);
    } catch (ExitUtil.ExitException e) {
      return e.status;
    } catch (Exception e) {
      e.printStackTrace();
      return 255;
    }
  }

  private static Tool tool(String program) throws Exception {
    Class<?> found = Class.forName(program);
    if (program.endsWith(".DistCp")) {
      Class<?> options = Class.forName("org.apache.hadoop.tools.DistCpOptions");
      return (Tool) found.getConstructor(Configuration.class, options).newInstance(new Configuration(), null);
    }
    try {
      return (Tool) found.getConstructor().newInstance();
    } catch (NoSuchMethodException e) {
      return (Tool) found.getConstructor(Configuration.class).newInstance(new Configuration());
    }
  }

  private static String decoded(String word) {
    return new String(Base64.getDecoder().decode(word), StandardCharsets.UTF_8);
  }

  private static String encoded(ByteArrayOutputStream bytes) {
    return Base64.getEncoder().encodeToString(bytes.toByteArray());
  }
}
