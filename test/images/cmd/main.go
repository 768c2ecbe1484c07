// Command cmd writes the test images as docker archives into a directory: go run ./test/images/cmd -o DIR.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/shoal-dev/shoal/test/images"
)

func main() {
	out := flag.String("o", images.CacheDir(), "directory to write the archives to")
	flag.Parse()
	paths, err := images.Build(context.Background(), *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, path := range paths {
		fmt.Println(path)
	}
}
