// Package pyjson writes and reads JSON the way Python does. Patroni is a Python
// program, and its bytes are part of what pgha has to match: peers, scripts and
// monitoring compare the text of documents, not only their meaning. Go's own
// encoder escapes other characters, prints floats differently and loses the
// order of keys.
package pyjson
