package extension

import (
	"bytes"
	"io"
)

// longestLine is where a line without end is cut.
const longestLine = 4096

// lines passes whole lines on, without their ends.
type lines struct {
	say  func(line string)
	rest []byte
}

// Lines makes a writer that calls say for every line written to it.
func Lines(say func(line string)) io.Writer { return &lines{say: say} }

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)

	for {
		end := bytes.IndexByte(l.rest, '\n')
		if end < 0 && len(l.rest) < longestLine {
			return len(p), nil
		}

		if end < 0 {
			l.say(string(l.rest))
			l.rest = l.rest[:0]

			return len(p), nil
		}

		l.say(string(bytes.TrimRight(l.rest[:end], "\r")))
		l.rest = l.rest[end+1:]
	}
}
