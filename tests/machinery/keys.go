package main

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"
)

// table is which keys every kind of document may have: the type of each kind, and by type what each
// key holds, in the words of the lab's own tables ("text", "flag", "number", "any", "[…]" for a
// list, "{…}" for a mapping, else a type).
type table struct {
	Documents map[string]string            `json:"documents"`
	Types     map[string]map[string]string `json:"types"`
}

// keys describes the documents of the kinds in q.Patches, and the one without a kind, by the fields
// into which the library reads them. The JSON schema that it carries is not enough for that: keys
// that are still read but no longer wanted are not in it.
func keys(q question) (string, error) {
	t := table{
		Documents: map[string]string{"": "v1alpha1.Config"},
		Types:     map[string]map[string]string{},
	}
	t.holds(reflect.TypeFor[v1alpha1.Config]())

	for _, kind := range q.Patches {
		name, err := t.document(kind)
		if err != nil {
			return "", fmt.Errorf("kind %s: %w", kind, err)
		}

		t.Documents[kind] = name
	}

	text, err := json.Marshal(t)

	return string(text), err
}

// document describes what the library reads a document of a kind into.
func (t table) document(kind string) (string, error) {
	text := fmt.Sprintf("apiVersion: v1alpha1\nkind: %s\n", kind)

	cfg, err := configloader.NewFromBytes([]byte(text + "name: x\n"))
	if err != nil {
		// Not every kind has a name.
		if cfg, err = configloader.NewFromBytes([]byte(text)); err != nil {
			return "", err
		}
	}

	documents := cfg.Documents()
	if len(documents) != 1 {
		return "", fmt.Errorf("read as %d documents", len(documents))
	}

	return t.holds(reflect.TypeOf(documents[0])), nil
}

// holds says what a value of a Go type is written as.
func (t table) holds(typ reflect.Type) string {
	if typ.Kind() == reflect.Pointer {
		return t.holds(typ.Elem())
	}

	// What reads itself may be written in more ways than its fields tell.
	pointer := reflect.PointerTo(typ)
	if _, reads := pointer.MethodByName("UnmarshalYAML"); reads {
		return "any"
	}

	if pointer.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "text"
	}

	switch typ.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "flag"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if typ.PkgPath() == "time" {
			return "text"
		}

		return "number"
	case reflect.Slice:
		return "[" + t.holds(typ.Elem()) + "]"
	case reflect.Map:
		return "{" + t.holds(typ.Elem()) + "}"
	case reflect.Struct:
		if takesAnyKey(typ) {
			return "any"
		}

		t.describe(typ)

		return typ.String()
	default:
		return "any"
	}
}

// describe enters a struct type and everything below it.
func (t table) describe(typ reflect.Type) {
	if _, known := t.Types[typ.String()]; known {
		return
	}

	fields := map[string]string{}
	t.Types[typ.String()] = fields
	t.fields(typ, fields)
}

func (t table) fields(typ reflect.Type, fields map[string]string) {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}

	for i := range typ.NumField() {
		field := typ.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")

		switch {
		case name == "-":
		case strings.Contains(options, "inline"):
			t.fields(field.Type, fields)
		case !field.IsExported():
		case name == "":
			fields[strings.ToLower(field.Name)] = t.holds(field.Type)
		default:
			fields[name] = t.holds(field.Type)
		}
	}
}

// takesAnyKey tells a type that reads its whole mapping into a map.
func takesAnyKey(typ reflect.Type) bool {
	for i := range typ.NumField() {
		field := typ.Field(i)
		if field.Type.Kind() == reflect.Map && strings.Contains(field.Tag.Get("yaml"), ",inline") {
			return true
		}
	}

	return false
}
