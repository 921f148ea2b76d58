package restapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pgha/pgha/internal/plain"
	"github.com/pgha/pgha/internal/pyjson"
	"github.com/pgha/pgha/pkg/config"
)

// headers sets what every normal answer carries.
func (s *Server) headers(w http.ResponseWriter, contentType string, length int) {
	h := w.Header()
	r := s.rules.Load()
	h["Server"] = []string{r.server}
	for name, values := range r.headers {
		h[name] = values
	}
	h["Content-Type"] = []string{contentType}
	h["Content-Length"] = []string{strconv.Itoa(length)}
}

func field(name string, value any) pyjson.Field { return pyjson.Field{Name: name, Value: value} }

// json answers with a document made by pyjson.
func (s *Server) json(w http.ResponseWriter, code int, body []byte) {
	s.headers(w, "application/json", len(body))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// text answers with one line.
func (s *Server) text(w http.ResponseWriter, code int, line string) {
	s.headers(w, "text/html", len(line))
	w.WriteHeader(code)
	_, _ = io.WriteString(w, line)
}

// bare answers with a status code and nothing else.
func bare(w http.ResponseWriter, code int) { w.WriteHeader(code) }

// explanations are the sentences of Patroni's generic error pages; old
// patronictl looks for the one of 501.
var explanations = map[int][2]string{
	400: {"Bad Request", "Bad request syntax or unsupported method"},
	409: {"Conflict", "Request conflict"},
	411: {"Length Required", "Client must specify Content-Length"},
	413: {"Request Entity Too Large", "Entity is too large"},
	501: {"Not Implemented", "Server does not support this operation"},
	502: {"Bad Gateway", "Invalid responses from another server/proxy"},
	503: {"Service Unavailable", "The server cannot process the request due to a high load"},
}

const errorPageText = `<!DOCTYPE HTML>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: %d</p>
        <p>Message: %s.</p>
        <p>Error code explanation: %d - %s.</p>
    </body>
</html>
`

// errorPage answers with the HTML page Patroni's HTTP library makes (wire
// contract §5.1 lists where). An empty message means the usual one.
func errorPage(w http.ResponseWriter, code int, message string) {
	e := explanations[code]
	if message == "" {
		message = e[0]
	}
	body := fmt.Sprintf(errorPageText, code, escapeHTML(message), code, e[1])
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("Content-Type", "text/html;charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

// escapeHTML escapes markup but leaves quotes, as Python does here.
func escapeHTML(s string) string {
	out := html.EscapeString(s)
	for _, r := range [][2]string{{"&#39;", "'"}, {"&#34;", `"`}} {
		out = string(bytes.ReplaceAll([]byte(out), []byte(r[0]), []byte(r[1])))
	}
	return out
}

// body reads a JSON object from the request and answers itself when there is
// none (wire contract §5.7): 411 without Content-Length, 413 when too large, 400
// otherwise.
func body(w http.ResponseWriter, req *http.Request) (raw []byte, fields pyjson.Object, ok bool) {
	raw, fields, ok = object(w, req)
	if ok && len(fields) == 0 {
		errorPage(w, http.StatusBadRequest, "")
		return nil, nil, false
	}
	return raw, fields, ok
}

// object is body without the rule that the object must not be empty.
func object(w http.ResponseWriter, req *http.Request) (raw []byte, fields pyjson.Object, ok bool) {
	if req.ContentLength < 0 || req.Header.Get("Content-Length") == "" {
		errorPage(w, http.StatusLengthRequired, "")
		return nil, nil, false
	}
	raw, err := io.ReadAll(req.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		errorPage(w, http.StatusRequestEntityTooLarge, "")
		return nil, nil, false
	case err != nil:
		errorPage(w, http.StatusBadRequest, "")
		return nil, nil, false
	}
	value, err := pyjson.Decode(raw)
	fields, isObject := value.(pyjson.Object)
	if err != nil || !isObject {
		errorPage(w, http.StatusBadRequest, "")
		return nil, nil, false
	}
	return raw, fields, true
}

// mayTake lets a request take longer than others may.
func (s *Server) mayTake(w http.ResponseWriter, limit time.Duration) {
	end := time.Now().Add(limit + writeTimeout)
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(end), control.SetWriteDeadline(end)); err != nil {
		s.log.Debug("lengthen the deadline of a request", "error", err)
	}
}

// strictBody reads a JSON object into a struct; a field it does not have, or
// one of another type, is answered with one line. With optional, no body at all
// leaves the struct as it is. It answers itself when it returns false.
func (s *Server) strictBody(w http.ResponseWriter, req *http.Request, into any, optional bool) bool {
	if optional && req.ContentLength == 0 {
		return true
	}
	raw, fields, ok := object(w, req)
	if !ok {
		return false
	}
	if len(fields) == 0 {
		if !optional {
			errorPage(w, http.StatusBadRequest, "")
		}
		return optional
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		s.text(w, http.StatusBadRequest, plain.OneLine(strings.TrimPrefix(err.Error(), "json: ")))
		return false
	}
	return true
}

// compact is the stored form of a document: no spaces, order kept.
func compact(raw []byte) ([]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// failsafeMode tells whether the configuration asks for it.
func failsafeMode(raw []byte) bool {
	d, err := config.ParseDynamic(raw)
	return err == nil && d != nil && d.FailsafeMode
}
