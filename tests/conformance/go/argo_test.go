// Package conformance uses SteadFS as programs in Go do: by github.com/colinmarc/hdfs, which is what Argo Workflows
// has in it. HDFS_ADDRESS is the host and port of the namenode.
package conformance

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

const mebibyte = 1 << 20

func connect(t *testing.T, user string) *hdfs.Client {
	t.Helper()
	client, err := hdfs.NewClient(hdfs.ClientOptions{Addresses: []string{os.Getenv("HDFS_ADDRESS")}, User: user})
	must(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

func super(t *testing.T) *hdfs.Client { return connect(t, os.Getenv("HDFS_SUPERUSER")) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[T comparable](t *testing.T, what string, found, expected T) {
	t.Helper()
	if found != expected {
		t.Fatalf("%s: expected %v, found %v", what, expected, found)
	}
}

// content gives bytes of which no block equals another.
func content(length int) []byte {
	var out bytes.Buffer
	for number := 0; out.Len() < length; number++ {
		fmt.Fprintf(&out, "%011d\n", number)
	}
	return out.Bytes()[:length]
}

// least is the smaller of two numbers, which Go has had since 1.21 only.
func least(one, other int) int {
	if one < other {
		return one
	}
	return other
}

func local(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "local")
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// save is what Argo does with an output artifact: replace with force, make the folder, copy.
func save(client *hdfs.Client, from, to string, force bool) error {
	if force {
		if _, err := client.Stat(to); err == nil {
			if err := client.Remove(to); err != nil {
				return err
			}
		}
	}
	folder := filepath.Dir(to)
	if _, err := client.Stat(folder); os.IsNotExist(err) {
		if err := client.MkdirAll(folder, 0o777); err != nil {
			return err
		}
	}
	return client.CopyToRemote(from, to)
}

// load is what Argo does with an input artifact.
func load(client *hdfs.Client, from, to string) error {
	info, err := client.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("is a folder")
	}
	return client.CopyToLocal(from, to)
}

func TestArtifacts(t *testing.T) {
	client := super(t)
	data := content(3*mebibyte + 17)
	must(t, save(client, local(t, data), "/argo/run-1/step/output.tgz", false))
	target := filepath.Join(t.TempDir(), "artifact")
	must(t, load(client, "/argo/run-1/step/output.tgz", target))
	back, err := os.ReadFile(target)
	must(t, err)
	want(t, "an artifact comes back", bytes.Equal(back, data), true)

	err = save(client, local(t, []byte("again")), "/argo/run-1/step/output.tgz", false)
	want(t, "saving twice is refused", errors.Is(err, os.ErrExist), true)
	must(t, save(client, local(t, []byte("again")), "/argo/run-1/step/output.tgz", true))
	found, err := client.ReadFile("/argo/run-1/step/output.tgz")
	must(t, err)
	want(t, "replaced", string(found), "again")
	want(t, "nothing there", os.IsNotExist(load(client, "/argo/none", target)), true)
	want(t, "a folder", load(client, "/argo/run-1", target) != nil, true)
}

func TestArtifactsOfAnotherUser(t *testing.T) {
	client := super(t)
	must(t, client.MkdirAll("/argo/private", 0o700))
	eve := connect(t, "eve")
	err := save(eve, local(t, []byte("x")), "/argo/private/x", false)
	want(t, "a closed folder", errors.Is(err, os.ErrPermission), true)
	must(t, client.MkdirAll("/argo/eve", 0o755))
	must(t, client.Chown("/argo/eve", "eve", "team"))
	must(t, save(eve, local(t, []byte("x")), "/argo/eve/deep/x", false))
	info, err := client.Stat("/argo/eve/deep/x")
	must(t, err)
	status := info.(*hdfs.FileInfo)
	want(t, "owner and group", status.Owner()+":"+status.OwnerGroup(), "eve:team")
	eve.RemoveAll("/argo/eve/deep")
	_, err = client.Stat("/argo/eve/deep")
	want(t, "removed", os.IsNotExist(err), true)
}

func TestBlocksOfOneMebibyte(t *testing.T) {
	client := super(t)
	data := content(2*mebibyte + 777)
	must(t, client.MkdirAll("/go", 0o755))
	writer, err := client.CreateFile("/go/blocks", 3, mebibyte, 0o640)
	must(t, err)
	for rest := data; len(rest) > 0; {
		part := least(100_001, len(rest))
		_, err := writer.Write(rest[:part])
		must(t, err)
		rest = rest[part:]
	}
	must(t, writer.Close())
	reader, err := client.Open("/go/blocks")
	must(t, err)
	defer reader.Close()
	want(t, "size", reader.Stat().Size(), int64(len(data)))
	want(t, "mode", reader.Stat().Mode().Perm(), os.FileMode(0o640))
	part := make([]byte, 64)
	for _, offset := range []int64{0, 511, mebibyte - 32, 2*mebibyte - 1, int64(len(data)) - 64} {
		_, err := reader.ReadAt(part, offset)
		must(t, err)
		want(t, fmt.Sprint("bytes at ", offset), bytes.Equal(part, data[offset:offset+64]), true)
	}
	_, err = reader.Seek(mebibyte+5, io.SeekStart)
	must(t, err)
	rest, err := io.ReadAll(reader)
	must(t, err)
	want(t, "the rest", bytes.Equal(rest, data[mebibyte+5:]), true)
	sum, err := reader.Checksum()
	must(t, err)
	want(t, "checksum", fmt.Sprintf("%x", sum), fmt.Sprintf("%x", fileChecksum(data, mebibyte)))
}

// fileChecksum is the MD5 of the blocks' MD5s of the checksums of their chunks of 512 bytes, padded as Hadoop's
// buffers are: it doubles from 32 bytes.
func fileChecksum(data []byte, block int) []byte {
	var digests []byte
	for len(data) > 0 {
		part := data[:least(block, len(data))]
		data = data[len(part):]
		var sums bytes.Buffer
		for len(part) > 0 {
			chunk := part[:least(512, len(part))]
			part = part[len(chunk):]
			binary.Write(&sums, binary.BigEndian, crc32.Checksum(chunk, crc32.MakeTable(crc32.Castagnoli)))
		}
		digest := md5.Sum(sums.Bytes())
		digests = append(digests, digest[:]...)
	}
	padded := 32
	for padded < len(digests) {
		padded *= 2
	}
	sum := md5.Sum(append(digests, make([]byte, padded-len(digests))...))
	return sum[:]
}

func TestFlushAndAppend(t *testing.T) {
	client := super(t)
	must(t, client.MkdirAll("/go", 0o755))
	writer, err := client.Create("/go/growing")
	must(t, err)
	_, err = writer.Write([]byte("first "))
	must(t, err)
	must(t, writer.Flush())
	must(t, writer.Close())
	for _, word := range []string{"second ", "third"} {
		writer, err = client.Append("/go/growing")
		must(t, err)
		_, err = writer.Write([]byte(word))
		must(t, err)
		must(t, writer.Close())
	}
	found, err := client.ReadFile("/go/growing")
	must(t, err)
	want(t, "appended", string(found), "first second third")
}

func TestNamesAndTimes(t *testing.T) {
	client := super(t)
	must(t, client.MkdirAll("/go/names/inner", 0o755))
	for _, name := range []string{"with space", "ünïcödé-日本", "plus+and&"} {
		must(t, client.CreateEmptyFile("/go/names/"+name))
	}
	entries, err := client.ReadDir("/go/names")
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	sort.Strings(names)
	want(t, "names", fmt.Sprint(names), fmt.Sprint([]string{"inner", "plus+and&", "with space", "ünïcödé-日本"}))
	moment := time.Unix(1_234_567_890, 0)
	must(t, client.Chtimes("/go/names/with space", moment, moment))
	must(t, client.Chmod("/go/names/with space", 0o604))
	must(t, client.Rename("/go/names/with space", "/go/names/inner/moved"))
	info, err := client.Stat("/go/names/inner/moved")
	must(t, err)
	want(t, "time", info.ModTime().UnixMilli(), moment.UnixMilli())
	want(t, "mode", info.Mode().Perm(), os.FileMode(0o604))
	want(t, "onto itself", client.Rename("/go/names/none", "/go/names/x") != nil, true)

	walked := 0
	must(t, client.Walk("/go/names", func(string, os.FileInfo, error) error {
		walked++
		return nil
	}))
	want(t, "walked", walked, 5)
	summary, err := client.GetContentSummary("/go/names")
	must(t, err)
	want(t, "files", summary.FileCount(), 3)
	want(t, "folders", summary.DirectoryCount(), 2)
	space, err := client.StatFs()
	must(t, err)
	want(t, "space", space.Capacity > 0 && space.Remaining > 0, true)
}

func TestALongListingComesInParts(t *testing.T) {
	const files = 2_500
	client := super(t)
	must(t, client.MkdirAll("/go/many", 0o755))
	numbers := make(chan int)
	var workers sync.WaitGroup
	for worker := 0; worker < 16; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for number := range numbers {
				if err := client.CreateEmptyFile(fmt.Sprintf("/go/many/%05d", number)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for number := 0; number < files; number++ {
		numbers <- number
	}
	close(numbers)
	workers.Wait()
	entries, err := client.ReadDir("/go/many")
	must(t, err)
	want(t, "entries", len(entries), files)
	folder, err := client.Open("/go/many")
	must(t, err)
	first, err := folder.Readdirnames(100)
	must(t, err)
	want(t, "the first ones", len(first), 100)
	want(t, "in order", sort.StringsAreSorted(first), true)
}
