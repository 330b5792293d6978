package scenario

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// inBash completes a command line as bash does at a tab.
const inBash = `
cd "$2"; PATH="$1:$PATH"
eval "$(rasterloom completion bash)"
while IFS= read -r COMP_LINE; do
  # Words as readline has them: cut at blanks, and at = as a word of its own.
  COMP_WORDS=() COMPREPLY=() COMP_POINT=${#COMP_LINE}
  for w in $COMP_LINE; do
    while [[ $w == *=* ]]; do COMP_WORDS+=("${w%%=*}" "="); w="${w#*=}"; done
    [[ -n $w ]] && COMP_WORDS+=("$w")
  done
  [[ $COMP_LINE == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _rasterloom
  echo "${COMPREPLY[*]}"
done`

// bash completes commands, flags, values, files, and the layers of a real suite.
func TestCompletionInBash(t *testing.T) {
	bin, folder := binaries(t), t.TempDir()
	b := newBroken(t, 2)
	lines := [][2]string{
		{"rasterloom mer", "merge"},
		{"rasterloom layers s", "show"},
		{"rasterloom merge layer", "layer_0 layer_1"},
		{"rasterloom merge layer_0 layer_1 -o ", "a.csv b.parquet"},
		{"rasterloom merge layer_0 --reference=", "layer_0 layer_1"},
		{"rasterloom merge layer_0 --reference=l", "layer_0 layer_1"},
		{"rasterloom merge layer_0 --extent=u", "union"},
		{"rasterloom merge layer_0 --extent in", "intersection"},
		{"rasterloom merge column=layer_1", "layer_1"},
		{"rasterloom plan --rows-k", "--rows-kept"},
		{"rasterloom nothing ", ""},
	}
	if out, err := exec.CommandContext(t.Context(), "touch", folder+"/a.csv", folder+"/b.parquet").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	var typed, want []string
	for _, l := range lines {
		typed, want = append(typed, l[0]), append(want, l[1])
	}
	// A shell waits a second for the names of layers: too little, now and then, on a
	// busy machine.
	for deadline := time.Now().Add(startLimit); ; {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", inBash, "bash", bin, folder)
		cmd.Env = append(environment(), "RASTERLOOM_URL="+b.schema)
		cmd.Stdin = strings.NewReader(strings.Join(typed, "\n") + "\n")
		out, err := cmd.CombinedOutput()
		got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
		if err == nil && slices.Equal(got, want) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Errorf("bash completes\n%q, want\n%q (%v)", got, want, err)
			break
		}
	}
	for _, shell := range []string{"zsh", "fish", "powershell"} {
		if got := command(t, bin, "completion", shell); got.status != 0 || !strings.Contains(got.out, "rasterloom") {
			t.Errorf("%s: status %d, %s", shell, got.status, got.err)
		}
	}
}
