package localpg

import (
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/rasterloom/rasterloom/fault"
)

// account is who the server's processes run as.
type account struct {
	name     string
	uid, gid int
	// switched is true when that is somebody else than this process, which is
	// root then: PostgreSQL refuses to run as root.
	switched bool
}

// serverAccount is the account of this process, or, for root, the first of
// postgres and nobody that exists.
func serverAccount() (account, error) {
	if uid := os.Geteuid(); uid != 0 {
		return account{name: "user " + strconv.Itoa(uid), uid: uid, gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil && uid > 0 {
			return account{name: name, uid: uid, gid: gid, switched: true}, nil
		}
	}
	return account{}, fault.New(fault.Precondition, fault.DatabaseUnavailable,
		"PostgreSQL does not run as root, and there is no other account for it: neither postgres nor nobody exists")
}

// attributes makes a child run as the account, in a process group of its own, so
// that Ctrl-C in a terminal reaches the owner only, who then stops the server.
func (a account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		attributes.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attributes
}

// own hands a file over to the account.
func (a account) own(path string) error {
	if !a.switched {
		return nil
	}
	return os.Lchown(path, a.uid, a.gid)
}

// canEnter reports whether the account may pass through every directory above
// path, and names the first it may not. It goes by owner and mode; when this
// process is the account, the system answers in due course.
func (a account) canEnter(path string) (barrier string, ok bool) {
	if !a.switched {
		return "", true
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err == nil && !a.passes(info, 0o1) {
			return dir, false
		}
		if dir == filepath.Dir(dir) {
			return "", true
		}
	}
}

// passes reports whether the account has the permission bit (1 execute, 4 read)
// by the class that it falls in.
func (a account) passes(info fs.FileInfo, bit fs.FileMode) bool {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		switch {
		case int(stat.Uid) == a.uid:
			bit <<= 6
		case int(stat.Gid) == a.gid:
			bit <<= 3
		}
	}
	return info.Mode().Perm()&bit != 0
}
