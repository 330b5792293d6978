package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/rasterloom/rasterloom/internal/nearest"
)

// ConfigFile is the flag for a file of settings. Embedded at the top of a command
// line, it reads the file before the settings are looked at: a flag goes before the
// environment, that before the file, and that before the default.
type ConfigFile struct {
	Config string `help:"File of settings, in YAML. Default: ${config_default}" env:"RASTERLOOM_CONFIG" type:"path" placeholder:"FILE"`

	settings *Settings
}

// Settings gives what was read; nil where there is no file.
func (c *ConfigFile) Settings() *Settings { return c.settings }

// BeforeResolve is kong's hook at the time when flags and environment are known.
func (c *ConfigFile) BeforeResolve(ctx *kong.Context, vars kong.Vars) error {
	path, must := "", true
	for _, flag := range ctx.Model.Flags {
		if flag.Name == "config" {
			path, _ = ctx.FlagValue(flag).(string)
		}
	}
	if path == "" {
		if path, must = vars["config_path"], false; path == "" {
			return nil
		}
	}
	settings, err := readSettings(path)
	if errors.Is(err, os.ErrNotExist) && !must {
		return nil
	}
	if err != nil {
		return err
	}
	if err := settings.check(ctx); err != nil {
		return err
	}
	ctx.AddResolver(settings)
	c.settings = settings
	return nil
}

// Paths has an empty path, such as that of RASTERLOOM_CA=, mean that none was given:
// kong makes the working directory of it.
func Paths() kong.Option {
	return kong.NamedMapper("path", kong.MapperFunc(func(ctx *kong.DecodeContext, target reflect.Value) error {
		var path string
		if err := ctx.Scan.PopValueInto("file", &path); err != nil {
			return err
		}
		if path != "" && path != "-" {
			path = kong.ExpandPath(path)
		}
		target.SetString(path)
		return nil
	}))
}

// Settings are what a file says, by the names of the flags. They are kong's resolver.
type Settings struct {
	path   string
	values map[string]setting
	order  []string
}

// setting is one value of the file: a string, or a list of strings.
type setting struct {
	value any
	line  int
}

// maxSettings is far more than any file of settings has.
const maxSettings = 1 << 20

func readSettings(path string) (*Settings, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the file of settings cannot be read: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSettings+1))
	if err != nil {
		return nil, fmt.Errorf("the file of settings cannot be read: %w", err)
	}
	if len(text) > maxSettings {
		return nil, fmt.Errorf("%s has more than %d bytes, which no file of settings needs", path, maxSettings)
	}
	s := &Settings{path: path, values: map[string]setting{}}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		return s, nil
	}
	return s, s.take("", document.Content[0])
}

// take reads a mapping: the names of nested ones are joined by a hyphen.
func (s *Settings) take(prefix string, node *yaml.Node) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("%s: settings are written as NAME: VALUE", s.at(node.Line))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		name := prefix + key.Value
		if value.Kind == yaml.MappingNode {
			if err := s.take(name+"-", value); err != nil {
				return err
			}
			continue
		}
		said, err := s.value(name, value)
		if err != nil {
			return err
		}
		if before, twice := s.values[name]; twice {
			return fmt.Errorf("%s: %s is set already in line %d", s.at(key.Line), name, before.line)
		}
		s.values[name] = setting{said, key.Line}
		s.order = append(s.order, name)
	}
	return nil
}

func (s *Settings) value(name string, node *yaml.Node) (any, error) {
	switch {
	case node.Kind == yaml.ScalarNode && node.Tag == "!!null":
		return nil, fmt.Errorf("%s: %s has no value", s.at(node.Line), name)
	case node.Kind == yaml.ScalarNode:
		return node.Value, nil
	case node.Kind == yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("%s: %s is a list of something else than values", s.at(item.Line), name)
			}
			list = append(list, item.Value)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("%s: %s is neither a value nor a list of values", s.at(node.Line), name)
	}
}

func (s *Settings) at(line int) string { return fmt.Sprintf("%s:%d", s.path, line) }

// Path is the file's name; empty where there is no file.
func (s *Settings) Path() string {
	if s == nil {
		return ""
	}
	return s.path
}

// Place says where in the file a flag is set; empty if it is not.
func (s *Settings) Place(flag string) string {
	if s == nil {
		return ""
	}
	if said, ok := s.values[flag]; ok {
		return s.at(said.line)
	}
	return ""
}

// check refuses names that nothing has, and values that cannot be read. What the
// environment can set the file can set: the rest belongs to single commands.
func (s *Settings) check(ctx *kong.Context) error {
	known := map[string]*kong.Flag{}
	add := func(flags []*kong.Flag) {
		for _, flag := range flags {
			if len(flag.Envs) > 0 && !flag.Hidden && flag.Name != "config" && known[flag.Name] == nil {
				known[flag.Name] = flag
			}
		}
	}
	// Those of the command that is run come first: others may share a name.
	add(ctx.Flags())
	for _, leaf := range ctx.Model.Leaves(false) {
		for _, flags := range leaf.AllFlags(false) {
			add(flags)
		}
	}
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range s.order {
		said := s.values[name]
		flag := known[name]
		if flag == nil {
			hint := "`config print` lists the settings of `up`"
			if near := nearest.To(strings.ReplaceAll(name, "_", "-"), names, 1); len(near) > 0 {
				hint = "the nearest is " + near[0]
			}
			return fmt.Errorf("%s: there is no setting %s; %s", s.at(said.line), name, hint)
		}
		if err := try(flag, said.value); err != nil {
			return fmt.Errorf("%s: %s: %w", s.at(said.line), name, err)
		}
	}
	return nil
}

// try reads a value the way the flag would.
func try(flag *kong.Flag, value any) error {
	_, list := value.([]any)
	if list && !flag.IsSlice() {
		return errors.New("it takes one value, and not a list")
	}
	if flag.Enum != "" && !list && !slices.Contains(flag.EnumSlice(), fmt.Sprint(value)) {
		return fmt.Errorf("%q is none of %s", value, strings.Join(flag.EnumSlice(), ", "))
	}
	target := reflect.New(flag.Target.Type()).Elem()
	if target.Kind() == reflect.Pointer {
		target.Set(reflect.New(target.Type().Elem()))
	}
	return flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: kong.Scan().PushTyped(value, kong.FlagValueToken)}, target)
}

// Validate implements kong.Resolver; check has done it.
func (s *Settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver: it is asked for flags that were not given.
func (s *Settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	said, ok := s.values[flag.Name]
	if !ok {
		return nil, nil
	}
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	return said.value, nil
}

// UserConfigFile is where the command line looks for settings when none is named;
// empty where the user has no place for such files.
func UserConfigFile() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "rasterloom", "config.yaml")
}
