package images

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func TestArchivesHoldRunnableImages(t *testing.T) {
	paths, err := Build(t.Context(), CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recipes() {
		img, err := tarball.ImageFromPath(paths[r.ref()], nil)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		file, err := img.ConfigFile()
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		if len(file.Config.Cmd) == 0 || len(file.RootFS.DiffIDs) != 1 {
			t.Errorf("%s: config %+v, %d layers", r.name, file.Config, len(file.RootFS.DiffIDs))
		}
	}
}

func TestSameFilesGiveTheSameBytes(t *testing.T) {
	archive := func() string {
		files := tree{}
		files.text("a/b", "x", 0o644)
		files.link("c", "a/b")
		files.directory("d", 0o1777)
		data, err := files.tar()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if first, second := archive(), archive(); first != second {
		t.Error("two archives of the same tree differ")
	}
}
