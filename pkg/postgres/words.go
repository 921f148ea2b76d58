package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pgha/pgha/pkg/config"
)

// splitWords splits a configured command line as a POSIX shell splits words:
// quotes and backslashes count, and nothing is expanded, since the command
// runs without a shell (wire contract §8).
func splitWords(line string) ([]string, error) {
	w := wordSplitter{line: line}
	for w.at < len(line) {
		if err := w.step(); err != nil {
			return nil, fmt.Errorf("split command %q: %w", clip(line, 80), err)
		}
	}
	w.end()
	return w.words, nil
}

// commandWords is splitWords for a command that has to be there.
func commandWords(setting, line string) ([]string, error) {
	words, err := splitWords(line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	if len(words) == 0 || words[0] == "" {
		return nil, fmt.Errorf("%s: the command is empty: name a program", setting)
	}
	return words, nil
}

type wordSplitter struct {
	line  string
	at    int
	word  strings.Builder
	open  bool // a word has begun; it may still be empty, as '' is
	words []string
}

// step reads one character, or a whole quoted part.
func (w *wordSplitter) step() error {
	c := w.line[w.at]
	w.at++
	switch c {
	case 0:
		return errors.New("it holds a zero byte: remove it")
	case ' ', '\t', '\n', '\r':
		w.end()
	case '\'':
		return w.quoted('\'')
	case '"':
		return w.quoted('"')
	case '\\':
		return w.escaped("")
	default:
		w.add(c)
	}
	return nil
}

// quoted reads up to the closing quote. Inside double quotes a backslash
// escapes the few characters a shell would look at, and is itself otherwise.
func (w *wordSplitter) quoted(quote byte) error {
	start := w.at
	w.open = true
	for w.at < len(w.line) {
		c := w.line[w.at]
		w.at++
		switch {
		case c == quote:
			return nil
		case c == 0:
			return errors.New("it holds a zero byte: remove it")
		case c == '\\' && quote == '"':
			if err := w.escaped("$`\"\\\n"); err != nil {
				return err
			}
		default:
			w.add(c)
		}
	}
	return fmt.Errorf("the %c at character %d is never closed", quote, start)
}

// escaped reads what follows a backslash. only lists the characters that can
// be escaped; "" means all of them. A line break after it joins two lines.
func (w *wordSplitter) escaped(only string) error {
	if w.at >= len(w.line) {
		return errors.New("it ends with a backslash")
	}
	c := w.line[w.at]
	w.at++
	switch {
	case c == 0:
		return errors.New("it holds a zero byte: remove it")
	case only != "" && strings.IndexByte(only, c) < 0:
		w.add('\\')
		w.add(c)
	case c != '\n':
		w.add(c)
	}
	return nil
}

func (w *wordSplitter) add(c byte) {
	w.open = true
	w.word.WriteByte(c)
}

func (w *wordSplitter) end() {
	if w.open {
		w.words = append(w.words, w.word.String())
		w.word.Reset()
		w.open = false
	}
}

// clip shortens text for a message or a log line.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// PostBootstrapOf gives the options for PostBootstrap out of the bootstrap
// section: post_bootstrap (or post_init) split into words.
func PostBootstrapOf(b config.Bootstrap) (PostBootstrapOptions, error) {
	if strings.TrimSpace(b.PostBootstrap) == "" {
		return PostBootstrapOptions{}, nil
	}
	words, err := commandWords("bootstrap.post_bootstrap", b.PostBootstrap)
	return PostBootstrapOptions{Script: words}, err
}
