package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
	"github.com/pgha/pgha/pkg/dcs"
)

// editOptions are those of `edit-config` (wire contract §6.2).
type editOptions struct {
	quiet   bool
	set, pg []string // KEY=VALUE
	apply   string   // file
	replace string   // file
	force   bool
}

const standardInput = "-"

func newEditConfigCommand(a *App, opts *globals) *cobra.Command {
	var o editOptions
	cmd := clusterCommand(a, opts, func(ctx context.Context, s *session, name string) error {
		return a.editConfig(ctx, s, name, &o)
	})
	cmd.Use = "edit-config [CLUSTER]"
	cmd.Short = "Change the dynamic configuration of a cluster, in an editor or by options"
	flags := cmd.Flags()
	flags.BoolVarP(&o.quiet, "quiet", "q", false, "do not show what changes")
	flags.StringArrayVarP(&o.set, "set", "s", nil, "set a value, KEY=VALUE with dots in the key; null removes the key (may be repeated)")
	flags.StringArrayVarP(&o.pg, "pg", "p", nil, "the same for a PostgreSQL parameter (may be repeated)")
	flags.StringVar(&o.apply, "apply", "", "merge the settings of a YAML file; - is the standard input")
	flags.StringVar(&o.replace, "replace", "", "take the settings of a YAML file in place of all present ones; - is the standard input")
	flags.BoolVar(&o.force, "force", false, "ask nothing")
	return cmd
}

// edit is a change of /config while it is put together.
type edit struct {
	before, after pyjson.Object
	text          string // what the diff compares with: after, as YAML
	draft         string // file with the text of the editor; "" without one
}

// editConfig is the flow of patronictl: change, show, ask, write. What a member
// would refuse is refused here.
func (a *App) editConfig(ctx context.Context, s *session, name string, o *editOptions) error {
	c, err := s.read(ctx, name)
	if err != nil {
		return err
	}
	before, err := storedConfig(c, name)
	switch {
	case err != nil:
		return err
	case before == nil:
		return refuse("The config key does not exist in the cluster %s", name)
	}
	e, err := a.changeConfig(ctx, name, before, o)
	if err != nil {
		return err
	}
	written, err := a.writeConfig(ctx, s, name, c, e, o)
	if e.draft != "" {
		if err != nil && !written {
			return fmt.Errorf("%w; your text is kept in %s", err, e.draft)
		}
		_ = os.Remove(e.draft) // one that stays is in the way of nobody
	}
	return err
}

// changeConfig makes the new document: replace, then apply, then set and pg; or
// an editor.
func (a *App) changeConfig(ctx context.Context, name string, before pyjson.Object, o *editOptions) (e edit, err error) {
	e = edit{before: before, after: before}
	if o.replace == "" && o.apply == "" && len(o.set)+len(o.pg) == 0 {
		return a.editByHand(ctx, name, e)
	}
	if o.replace != "" {
		if e.after, err = a.merged(ctx, pyjson.Object{}, o.replace); err != nil {
			return e, err
		}
	}
	if o.apply != "" {
		if e.after, err = a.merged(ctx, e.after, o.apply); err != nil {
			return e, err
		}
	}
	pairs := slices.Clone(o.set)
	for _, p := range o.pg {
		pairs = append(pairs, "postgresql.parameters."+strings.TrimLeft(p, " "))
	}
	for _, p := range pairs {
		if e.after, err = withPair(e.after, p); err != nil {
			return e, err
		}
	}
	e.text = yamlBlock(e.after)
	return e, nil
}

// merged is doc with the settings of a file, as PATCH /config would merge them.
func (a *App) merged(ctx context.Context, doc pyjson.Object, file string) (pyjson.Object, error) {
	var text []byte
	var err error
	source := file
	if file == standardInput {
		source = "standard input"
		text, err = a.readAll(ctx)
	} else {
		text, err = os.ReadFile(file)
	}
	if errors.Is(err, errAborted) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w; name a YAML file", err)
	}
	patch, err := settings(text, source)
	if err != nil {
		return nil, err
	}
	next, _, err := config.PatchDynamic(encodeConfig(doc), encodeConfig(patch))
	if err != nil {
		return nil, err
	}
	return decodeConfig(next)
}

// readAll reads the standard input to its end.
func (a *App) readAll(ctx context.Context) ([]byte, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(a.input)
		done <- result{text, err}
	}()
	select {
	case <-ctx.Done():
		return nil, errAborted
	case r := <-done:
		return r.text, r.err
	}
}

// settings reads a YAML text that holds keys and values.
func settings(text []byte, source string) (pyjson.Object, error) {
	raw, err := config.YAMLToJSON(text, source)
	if err != nil {
		return nil, err
	}
	doc, err := decodeConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("%s holds no settings; write \"key: value\" lines", source)
	}
	return doc, nil
}

func decodeConfig(raw []byte) (pyjson.Object, error) {
	v, err := pyjson.Decode(raw)
	if err != nil {
		return nil, err
	}
	doc, ok := v.(pyjson.Object)
	if !ok {
		return nil, errors.New("not an object")
	}
	return doc, nil
}

func encodeConfig(doc pyjson.Object) []byte { return pyjson.Append(nil, doc, pyjson.Compact) }

// withPair applies one KEY=VALUE.
func withPair(doc pyjson.Object, pair string) (pyjson.Object, error) {
	key, text, ok := strings.Cut(pair, "=")
	if !ok {
		return nil, refuse("Invalid parameter setting %s; write KEY=VALUE", pair)
	}
	key = strings.TrimSpace(key)
	raw, err := config.YAMLToJSON([]byte(text), "value of "+key)
	if err != nil {
		return nil, err
	}
	value, err := pyjson.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("value of %s: %w", key, err)
	}
	return withValue(doc, path(key), value), nil
}

// path splits a dotted key. Below postgresql.parameters the rest is one key:
// the names of extensions' parameters hold dots.
func path(key string) []string {
	const parameters = "postgresql.parameters."
	if name, ok := strings.CutPrefix(key, parameters); ok {
		return []string{"postgresql", "parameters", name}
	}
	return strings.Split(key, ".")
}

// withValue returns doc with the value at path; null removes it, and with it
// the maps that this leaves empty. doc itself stays.
func withValue(doc pyjson.Object, path []string, value any) pyjson.Object {
	doc = slices.Clone(doc)
	key := path[0]
	if len(path) > 1 {
		below, _ := field(doc, key).(pyjson.Object)
		below = withValue(below, path[1:], value)
		value = below
		if len(below) == 0 {
			value = nil
		}
	}
	if value == nil {
		return slices.DeleteFunc(doc, func(f pyjson.Field) bool { return f.Name == key })
	}
	return put(doc, key, value)
}

func field(doc pyjson.Object, name string) any {
	for _, f := range doc {
		if f.Name == name {
			return f.Value
		}
	}
	return nil
}

// writeConfig shows the change, asks, and writes it if the key is still what it
// was when the change was begun. written is true as soon as the text is of no
// more use.
func (a *App) writeConfig(ctx context.Context, s *session, name string, c *dcs.Cluster, e edit, o *editOptions) (written bool, err error) {
	before := yamlBlock(e.before)
	if before == yamlBlock(e.after) {
		if !o.quiet {
			a.printf("Not changed\n")
		}
		return true, nil
	}
	next := encodeConfig(e.after)
	found := config.NewProblems(c.Config.Raw, next)
	for _, p := range found {
		if p.Severity == config.Error {
			return false, fmt.Errorf("%s; nothing was changed", p)
		}
	}
	for _, p := range found {
		if p.Severity == config.Warning {
			a.errorf("Warning: %s", p)
		}
	}
	if !o.quiet {
		if err := a.showDiff(ctx, before, e.text); err != nil {
			return false, err
		}
	}
	if !o.force && (o.apply == standardInput || o.replace == standardInput) {
		a.printf("Use --force option to apply changes\n")
		return true, nil
	}
	if !o.force {
		yes, err := a.confirm(ctx, "Apply these changes?")
		if err != nil || !yes {
			return true, err
		}
	}
	err = s.put(ctx, name, dcs.Write{Key: dcs.KeyConfig, Value: next, Revision: &c.Config.ModRevision})
	if err != nil {
		return false, changedMeanwhile(err, "Config modification aborted due to concurrent changes")
	}
	a.printf("Configuration changed\n")
	return true, nil
}
