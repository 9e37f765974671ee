import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.BlockLocation;
import org.apache.hadoop.fs.ContentSummary;
import org.apache.hadoop.fs.CreateFlag;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileChecksum;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.Options;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.QuotaUsage;
import org.apache.hadoop.fs.StorageType;
import org.apache.hadoop.fs.XAttrSetFlag;
import org.apache.hadoop.fs.permission.AclEntry;
import org.apache.hadoop.fs.permission.FsAction;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.hdfs.DistributedFileSystem;
import org.apache.hadoop.hdfs.protocol.HdfsConstants;
import org.apache.hadoop.hdfs.protocol.HdfsFileStatus;
import org.apache.hadoop.ipc.RemoteException;
import org.apache.hadoop.security.UserGroupInformation;

/**
 * The same operations, by the stock client, on two file systems: every outcome is compared, and at the end of a case all
 * that is there.
 *
 * Differential URL URL SEED CASES LENGTH     random cases
 * Differential URL URL -                     one case, a line an operation, from standard input
 *
 * An operation is a line of words: user, verb, arguments. What differs is shrunk to as few lines as still differ.
 */
public final class Differential {
    private static final String[] USERS = {"root", "ann", "bob"};
    private static final long WAIT_MS = 60_000;
    private static int rooms = 0;

    private final Side[] sides;

    private Differential(Side[] sides) {
        this.sides = sides;
    }

    public static void main(String[] words) throws Exception {
        Side[] sides = {new Side(words[0]), new Side(words[1])};
        Differential run = new Differential(sides);
        boolean same = words[2].equals("-")
            ? run.tell(new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8)).lines()
                .map(String::strip).filter(line -> !line.isEmpty() && !line.startsWith("#")).collect(Collectors.toList()))
            : run.random(Long.parseLong(words[2]), Integer.parseInt(words[3]), Integer.parseInt(words[4]));
        System.exit(same ? 0 : 1);
    }

    private boolean random(long seed, int cases, int length) throws Exception {
        int passed = 0;
        int failed = 0;
        int operations = 0;
        for (int number = 0; number < cases; number++) {
            List<String> lines = new Generator(new Random(seed + number)).lines(length);
            operations += lines.size();
            if (difference(lines, null) == null) {
                passed++;
                continue;
            }
            failed++;
            System.out.println("case " + (seed + number) + " differs; shrinking");
            tell(shrink(lines));
        }
        System.out.println(operations + " operations");
        System.out.println(passed + " passed, " + failed + " failed");
        return failed == 0;
    }

    /** Runs the lines and prints each with its outcomes; whether they were the same. */
    private boolean tell(List<String> lines) throws Exception {
        List<String> told = new ArrayList<>();
        String difference = difference(lines, told);
        told.forEach(line -> System.out.println("    " + line));
        System.out.println(difference == null ? "  no difference" : "  DIFFERS: " + difference);
        return difference == null;
    }

    private List<String> shrink(List<String> lines) throws Exception {
        List<String> best = new ArrayList<>(lines);
        for (int size = best.size() / 2; size >= 1; size /= 2) {
            for (int at = 0; at + size <= best.size();) {
                List<String> fewer = new ArrayList<>(best);
                fewer.subList(at, at + size).clear();
                if (!fewer.isEmpty() && difference(fewer, null) != null) {
                    best = fewer;
                } else {
                    at += size;
                }
            }
        }
        return best;
    }

    /** The first difference, or null. Both sides begin with an empty folder. */
    private String difference(List<String> lines, List<String> told) throws Exception {
        String room = "/differential-" + ProcessHandle.current().pid() + "-" + rooms++;
        // Rooms of their own, so that one file system can be compared with itself.
        sides[0].begin(room + "-1");
        sides[1].begin(room + "-2");
        try {
            for (String line : lines) {
                String first = sides[0].apply(line);
                String second = sides[1].apply(line);
                if (told != null) {
                    told.add(line + "  ->  " + first);
                }
                if (!kind(first).equals(kind(second)) && !accepted(line.split(" ")[1], kind(first), kind(second))) {
                    return line + "\n      first:  " + first + "\n      second: " + second;
                }
                if (first.contains("QuotaExceededException: ")) {
                    // HDFS leaves the folders that it made on the way to a file that its quota forbids; SteadFS makes all
                    // or nothing. From here on they may differ.
                    return null;
                }
            }
            String first = sides[0].everything();
            String second = sides[1].everything();
            return first.equals(second) ? null : unlike(first, second);
        } finally {
            for (Side side : sides) {
                side.end();
            }
        }
    }

    /** Of an exception its class; its words are for people. */
    private static String kind(String outcome) {
        return outcome.startsWith("!") ? outcome.split(": ", 2)[0] : outcome;
    }

    /** Differences that stay; each stands in docs/SEMANTICS.md. */
    private static boolean accepted(String verb, String first, String second) {
        // HDFS tells whether a file is there to those who may not look, when they open it.
        return Arrays.asList("read", "checksum", "locations").contains(verb) && first.equals("!java.io.FileNotFoundException")
            && second.equals("!org.apache.hadoop.security.AccessControlException");
    }

    private static String unlike(String first, String second) {
        List<String> one = Arrays.asList(first.split("\n"));
        List<String> other = Arrays.asList(second.split("\n"));
        return "what is left\n      first:  " + one.stream().filter(line -> !other.contains(line)).collect(Collectors.toList())
            + "\n      second: " + other.stream().filter(line -> !one.contains(line)).collect(Collectors.toList());
    }

    /** One file system, and what is open on it. */
    private static final class Side {
        private final Map<String, DistributedFileSystem> clients = new HashMap<>();
        private final Map<String, FSDataOutputStream> open = new TreeMap<>();
        private String room;

        Side(String url) throws Exception {
            Configuration conf = new Configuration();
            conf.setInt("dfs.bytes-per-checksum", 512);
            conf.setInt("dfs.client.block.write.locateFollowingBlock.retries", 3);
            conf.setInt("dfs.client.block.write.locateFollowingBlock.initial.delay.ms", 50);
            for (String user : USERS) {
                clients.put(user, UserGroupInformation.createRemoteUser(user).doAs(
                    (java.security.PrivilegedExceptionAction<DistributedFileSystem>) () ->
                        (DistributedFileSystem) DistributedFileSystem.newInstance(URI.create(url), conf)));
            }
        }

        void begin(String name) throws IOException {
            room = name;
            DistributedFileSystem root = clients.get("root");
            root.mkdirs(new Path(room));
            root.setPermission(new Path(room), new FsPermission((short) 0777));
        }

        void end() {
            for (FSDataOutputStream stream : open.values()) {
                try {
                    stream.close();
                } catch (IOException expected) {
                    // Its file may be gone.
                }
            }
            open.clear();
            try {
                clients.get("root").delete(new Path(room), true);
            } catch (IOException left) {
                System.err.println(room + " stays: " + left.getMessage());
            }
        }

        private Path path(String name) {
            return name.equals("/") ? new Path(room) : new Path(room + name);
        }

        String apply(String line) throws InterruptedException {
            try {
                String outcome = act(line.split(" "));
                return outcome == null ? "done" : outcome.replace(room, "");
            } catch (RemoteException error) {
                return "!" + error.getClassName() + ": " + words(error);
            } catch (IOException | RuntimeException error) {
                return "!" + error.getClass().getName() + ": " + words(error);
            }
        }

        private String words(Throwable error) {
            return String.valueOf(error.getMessage()).split("\n")[0].replace(room, "");
        }

        private String act(String[] w) throws IOException, InterruptedException {
            DistributedFileSystem fs = clients.get(w[0]);
            Path at = w.length > 2 ? path(w[2]) : null;
            switch (w[1]) {
                case "mkdirs": return "" + fs.mkdirs(at, permission(w[3]));
                case "mkdir": return "" + fs.mkdir(at, permission(w[3]));
                case "create": return write(create(fs, at, w, 3), number(w[4]), true);
                case "create-in": {
                    EnumSet<CreateFlag> flags = flags(w[3]);
                    return write(fs.createNonRecursive(at, FsPermission.getFileDefault(), flags, 4096,
                        (short) number(w[5]), number(w[6]), null), number(w[4]), true);
                }
                case "open": {
                    String handle = w[0] + w[3];
                    if (open.containsKey(handle)) {
                        return "in use";
                    }
                    open.put(handle, create(fs, at, w, 4));
                    return null;
                }
                case "write": return open.containsKey(w[0] + w[2]) ? write(open.get(w[0] + w[2]), number(w[3]), false) : "none";
                case "flush": {
                    FSDataOutputStream stream = open.get(w[0] + w[2]);
                    if (stream != null) {
                        stream.hsync();
                    }
                    return null;
                }
                case "close": {
                    FSDataOutputStream stream = open.remove(w[0] + w[2]);
                    if (stream != null) {
                        stream.close();
                    }
                    return null;
                }
                case "append": {
                    FSDataOutputStream stream = w[4].equals("new-block")
                        ? fs.append(at, EnumSet.of(CreateFlag.APPEND, CreateFlag.NEW_BLOCK), 4096, null)
                        : fs.append(at);
                    return write(stream, number(w[3]), true);
                }
                case "truncate": {
                    boolean done = fs.truncate(at, number(w[3]));
                    closed(fs, at);
                    return "" + done;
                }
                case "concat": {
                    fs.concat(at, Arrays.stream(w).skip(3).map(this::path).toArray(Path[]::new));
                    return null;
                }
                case "rename": return "" + fs.rename(at, path(w[3]));
                case "rename2": {
                    fs.rename(at, path(w[3]), w[4].equals("overwrite") ? Options.Rename.OVERWRITE : Options.Rename.NONE);
                    return null;
                }
                case "delete": return "" + fs.delete(at, w[3].equals("r"));
                case "chmod": fs.setPermission(at, permission(w[3])); return null;
                case "chown": fs.setOwner(at, w[3].equals("-") ? null : w[3], w[4].equals("-") ? null : w[4]); return null;
                case "times": fs.setTimes(at, number(w[3]), number(w[4])); return times(fs, at, w);
                case "setrep": return "" + fs.setReplication(at, (short) number(w[3]));
                case "stat": return status(fs.getFileStatus(at), "");
                // HDFS sorts names by signed bytes, SteadFS by unsigned ones.
                case "list": return Arrays.stream(fs.listStatus(at)).map(found -> status(found, found.getPath().getName()))
                    .sorted().collect(Collectors.joining(", "));
                case "summary": return summary(fs.getContentSummary(at));
                case "usage": return usage(fs.getQuotaUsage(at));
                case "quota": fs.setQuota(at, quota(w[3]), quota(w[4])); return null;
                case "type-quota": fs.setQuotaByStorageType(at, StorageType.valueOf(w[3]), quota(w[4])); return null;
                case "policy": fs.setStoragePolicy(at, w[3]); return null;
                case "unset-policy": fs.unsetStoragePolicy(at); return null;
                case "get-policy": return fs.getStoragePolicy(at).getName();
                case "set-acl": fs.setAcl(at, AclEntry.parseAclSpec(w[3], true)); return null;
                case "modify-acl": fs.modifyAclEntries(at, AclEntry.parseAclSpec(w[3], true)); return null;
                case "remove-acl-entries": fs.removeAclEntries(at, AclEntry.parseAclSpec(w[3], false)); return null;
                case "remove-default-acl": fs.removeDefaultAcl(at); return null;
                case "remove-acl": fs.removeAcl(at); return null;
                case "get-acl": return "" + fs.getAclStatus(at);
                case "set-xattr": fs.setXAttr(at, w[3], w[4].getBytes(StandardCharsets.UTF_8), xattrFlags(w[5])); return null;
                case "get-xattr": return text(fs.getXAttr(at, w[3]));
                case "get-xattrs": return attributes(fs.getXAttrs(at));
                case "list-xattrs": return "" + fs.listXAttrs(at).stream().sorted().collect(Collectors.toList());
                case "remove-xattr": fs.removeXAttr(at, w[3]); return null;
                case "access": fs.access(at, FsAction.getFsAction(w[3])); return null;
                case "checksum": {
                    FileChecksum sum = fs.getFileChecksum(at);
                    return sum == null ? "none" : sum.toString();
                }
                case "read": return read(fs, at, number(w[3]), (int) number(w[4]));
                case "locations": return Arrays.stream(fs.getFileBlockLocations(at, number(w[3]), number(w[4])))
                    .map(Differential.Side::extent).collect(Collectors.joining(", "));
                case "is-closed": return "" + fs.isFileClosed(at);
                case "recover": return recover(fs, at);
                case "link": fs.createSymlink(path(w[3]), at, true); return null;
                case "link-stat": return status(fs.getFileLinkStatus(at), "");
                case "home": return "" + fs.getHomeDirectory().toUri().getPath();
                default: throw new IllegalStateException("no such verb: " + w[1]);
            }
        }

        private static String extent(BlockLocation place) {
            return place.getOffset() + "+" + place.getLength();
        }

        /** `flags length replication block-size` from `w[first]` on. */
        private static FSDataOutputStream create(DistributedFileSystem fs, Path at, String[] w, int first) throws IOException {
            return fs.create(at, FsPermission.getFileDefault(), flags(w[first]), 4096, (short) number(w[first + 2]),
                number(w[first + 3]), null, null);
        }

        private static EnumSet<CreateFlag> flags(String word) {
            EnumSet<CreateFlag> flags = EnumSet.noneOf(CreateFlag.class);
            for (char letter : word.toCharArray()) {
                flags.add(letter == 'c' ? CreateFlag.CREATE : letter == 'o' ? CreateFlag.OVERWRITE : CreateFlag.APPEND);
            }
            return flags;
        }

        private static EnumSet<XAttrSetFlag> xattrFlags(String word) {
            EnumSet<XAttrSetFlag> flags = EnumSet.noneOf(XAttrSetFlag.class);
            if (word.contains("c")) {
                flags.add(XAttrSetFlag.CREATE);
            }
            if (word.contains("r")) {
                flags.add(XAttrSetFlag.REPLACE);
            }
            return flags;
        }

        private static String write(FSDataOutputStream stream, long length, boolean close) throws IOException {
            byte[] bytes = new byte[(int) length];
            long from = stream.getPos();
            for (int index = 0; index < bytes.length; index++) {
                bytes[index] = (byte) ((from + index) * 31 + (from + index) / 251);
            }
            try {
                stream.write(bytes);
            } finally {
                if (close) {
                    stream.close();
                }
            }
            return "at " + from;
        }

        private static String read(DistributedFileSystem fs, Path at, long offset, int length) throws IOException {
            try (FSDataInputStream stream = fs.open(at)) {
                byte[] bytes = new byte[length];
                stream.seek(offset);
                int got = 0;
                for (int n; got < length && (n = stream.read(bytes, got, length - got)) > 0;) {
                    got += n;
                }
                return got + " bytes " + Arrays.hashCode(bytes);
            }
        }

        private static String times(DistributedFileSystem fs, Path at, String[] w) throws IOException {
            FileStatus found = fs.getFileStatus(at);
            return (w[3].equals("-1") ? "" : found.getModificationTime() + " ") + (w[4].equals("-1") ? "" : found.getAccessTime());
        }

        private static void closed(DistributedFileSystem fs, Path at) throws IOException, InterruptedException {
            for (long end = System.currentTimeMillis() + WAIT_MS; !fs.isFileClosed(at);) {
                if (System.currentTimeMillis() > end) {
                    throw new IOException("still open after " + WAIT_MS + " ms");
                }
                TimeUnit.MILLISECONDS.sleep(50);
            }
        }

        private static String recover(DistributedFileSystem fs, Path at) throws IOException, InterruptedException {
            for (long end = System.currentTimeMillis() + WAIT_MS; !fs.recoverLease(at);) {
                if (System.currentTimeMillis() > end) {
                    return "not recovered";
                }
                TimeUnit.MILLISECONDS.sleep(200);
            }
            return "closed";
        }

        private static String status(FileStatus found, String name) {
            String extra = "";
            if (found instanceof HdfsFileStatus) {
                HdfsFileStatus more = (HdfsFileStatus) found;
                extra = " policy=" + more.getStoragePolicy() + " children=" + more.getChildrenNum();
            }
            return name + (found.isDirectory() ? "d" : "-") + found.getPermission() + (found.hasAcl() ? "+" : "") + " "
                + found.getOwner() + ":" + found.getGroup() + " " + found.getLen() + " x" + found.getReplication() + " of "
                + found.getBlockSize() + extra;
        }

        private static String summary(ContentSummary sums) {
            return "folders=" + sums.getDirectoryCount() + " files=" + sums.getFileCount() + " length=" + sums.getLength()
                + " " + usage(sums);
        }

        private static String usage(QuotaUsage sums) {
            StringBuilder types = new StringBuilder();
            for (StorageType type : StorageType.getTypesSupportingQuota()) {
                types.append(' ').append(type).append('=').append(sums.getTypeConsumed(type)).append('/').append(sums.getTypeQuota(type));
            }
            return "names=" + sums.getFileAndDirectoryCount() + "/" + sums.getQuota() + " space=" + sums.getSpaceConsumed() + "/"
                + sums.getSpaceQuota() + types;
        }

        private static String attributes(Map<String, byte[]> found) {
            Map<String, String> shown = new TreeMap<>();
            found.forEach((name, value) -> shown.put(name, text(value)));
            return shown.toString();
        }

        private static String text(byte[] value) {
            return value == null ? "null" : new String(value, StandardCharsets.UTF_8);
        }

        /** All that is in the room, as root sees it. */
        String everything() throws IOException {
            StringBuilder out = new StringBuilder();
            DistributedFileSystem root = clients.get("root");
            if (!root.exists(new Path(room))) {
                return "nothing";
            }
            walk(root, new Path(room), out);
            return out.toString().replace(room, "");
        }

        private static void walk(DistributedFileSystem fs, Path at, StringBuilder out) throws IOException {
            FileStatus found = fs.getFileStatus(at);
            out.append(at.toUri().getPath()).append(' ').append(status(found, "")).append(' ').append(fs.getAclStatus(at).getEntries())
                .append(' ').append(attributes(fs.getXAttrs(at)));
            if (found.isFile()) {
                out.append(' ').append(fs.isFileClosed(at) ? read(fs, at, 0, (int) found.getLen()) : "open").append('\n');
                return;
            }
            out.append(' ').append(summary(fs.getContentSummary(at))).append('\n');
            FileStatus[] entries = fs.listStatus(at);
            Arrays.sort(entries);
            for (FileStatus below : entries) {
                walk(fs, below.getPath(), out);
            }
        }

        private static FsPermission permission(String octal) {
            return new FsPermission(Short.parseShort(octal, 8));
        }

        private static long number(String word) {
            return Long.parseLong(word);
        }

        private static long quota(String word) {
            return word.equals("-") ? HdfsConstants.QUOTA_DONT_SET : word.equals("clear") ? HdfsConstants.QUOTA_RESET : number(word);
        }
    }

    /** Random lines: few names, so that they meet. */
    private static final class Generator {
        private final Random random;

        Generator(Random random) {
            this.random = random;
        }

        List<String> lines(int length) {
            List<String> lines = new ArrayList<>();
            for (int number = 0; number < length; number++) {
                lines.add((random.nextInt(3) == 0 ? USERS[random.nextInt(USERS.length)] : "root") + " " + operation());
            }
            return lines;
        }

        private String any(String... words) {
            return words[random.nextInt(words.length)];
        }

        private String path() {
            StringBuilder path = new StringBuilder();
            for (int depth = 1 + random.nextInt(3); depth > 0; depth--) {
                path.append('/').append(random.nextInt(12) == 0 ? any("ü", ".hidden", "c") : any("a", "b"));
            }
            return random.nextInt(25) == 0 ? "/" : path.toString();
        }

        private String mode() {
            return any("755", "700", "777", "1777", "644", "000", "770", "555");
        }

        private String file() {
            return any("c", "co", "c", "o") + " " + any("0", "1", "511", "512", "1024", "1500", "3000") + " " + any("1", "2", "3") + " "
                + any("1024", "2048");
        }

        private String entries() {
            List<String> entries = new ArrayList<>();
            String scope = any("", "", "default:");
            for (int count = random.nextInt(3); count >= 0; count--) {
                entries.add(scope + any("user:ann:", "user:bob:", "group:eng:", "group:staff:", "mask::", "user::", "group::", "other::")
                    + any("rwx", "r-x", "---", "rw-"));
            }
            return String.join(",", entries);
        }

        private String acl() {
            return random.nextInt(3) == 0 ? entries() : any("", "default:user:ann:r-x,")
                + "user::rwx," + any("", "user:bob:rw-,") + "group::r-x," + any("", "group:eng:rwx,", "mask::r--,") + "other::" + any("---", "r--");
        }

        private String attribute() {
            return any("user.a", "user.b", "trusted.t", "system.s", "raw.r", "security.x", "nonsense", "user.");
        }

        private String operation() {
            switch (random.nextInt(52)) {
                case 0: case 1: case 2: case 3: case 4: return "mkdirs " + path() + " " + mode();
                case 5: return "mkdir " + path() + " " + mode();
                case 6: case 7: case 8: case 9: case 10: return "create " + path() + " " + file();
                case 11: return "create-in " + path() + " " + file();
                case 12: return "open " + path() + " " + any("h", "i") + " " + file();
                case 13: return "write " + any("h", "i") + " " + any("10", "1024", "1500");
                case 14: return any("flush ", "close ") + any("h", "i");
                case 15: case 16: return "append " + path() + " " + any("1", "512", "1500") + " " + any("here", "here", "new-block");
                case 17: return "truncate " + path() + " " + any("0", "1", "512", "1024", "5000");
                case 18: return "concat " + path() + " " + path() + any("", " " + path());
                case 19: case 20: case 21: return "rename " + path() + " " + path();
                case 22: case 23: return "rename2 " + path() + " " + path() + " " + any("none", "overwrite");
                case 24: case 25: return "delete " + path() + " " + any("r", "r", "-");
                case 26: case 27: return "chmod " + path() + " " + mode();
                case 28: return "chown " + path() + " " + any("ann", "bob", "-") + " " + any("eng", "staff", "-");
                case 29: return "times " + path() + " " + any("1000", "-1", "2000") + " " + any("3000", "-1");
                case 30: return "setrep " + path() + " " + any("1", "2", "0", "600");
                case 31: return any("stat ", "list ", "summary ", "usage ", "link-stat ", "is-closed ", "checksum ") + path();
                case 32: case 33: return "quota " + path() + " " + any("-", "clear", "1", "3", "6") + " " + any("-", "clear", "0", "4096", "9000");
                case 34: return "type-quota " + path() + " " + any("DISK", "SSD", "ARCHIVE", "RAM_DISK") + " " + any("clear", "2048", "9000");
                case 35: return "policy " + path() + " " + any("HOT", "COLD", "WARM", "ALL_SSD", "ONE_SSD", "NOTHING");
                case 36: return any("unset-policy ", "get-policy ") + path();
                case 37: case 38: return "set-acl " + path() + " " + acl();
                case 39: case 40: return "modify-acl " + path() + " " + entries();
                case 41: return "remove-acl-entries " + path() + " " + any("user:ann", "group:eng", "default:user:ann", "mask:", "user:bob,group:staff");
                case 42: return any("remove-default-acl ", "remove-acl ", "get-acl ", "get-acl ") + path();
                case 43: case 44: return "set-xattr " + path() + " " + attribute() + " " + any("1", "22", "") .concat("v") + " " + any("c", "r", "cr");
                case 45: return "get-xattr " + path() + " " + attribute();
                case 46: return any("get-xattrs ", "list-xattrs ") + path();
                case 47: return "remove-xattr " + path() + " " + attribute();
                case 48: return "access " + path() + " " + any("r--", "-w-", "--x", "rwx");
                case 49: return "read " + path() + " " + any("0", "1", "1024", "9000") + " " + any("1", "4000");
                case 50: return "locations " + path() + " " + any("0", "1024") + " " + any("1", "9000");
                default: return any("recover " + path(), "link " + path() + " " + path(), "home", "is-closed " + path());
            }
        }
    }
}
