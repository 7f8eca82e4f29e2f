package main

import "slices"

// Bodies of functions for the modules below (core specification, 5.4).
var (
	bodyLoop   = []byte{0x03, 0x40, 0x0c, 0x00, 0x0b} // loop br 0 end
	bodyTrap   = []byte{0x00}                         // unreachable
	bodyReturn = []byte{}
)

// bodyCall calls the imported function with a number below 64.
func bodyCall(argument byte) []byte { return []byte{0x41, argument, 0x10, 0x00} }

// assemble makes a module that imports one function with an i32 parameter and exports one without any.
func assemble(imported, exported string, body []byte) []byte {
	const wasi = "wasi_snapshot_preview1"

	return slices.Concat(
		[]byte("\x00asm\x01\x00\x00\x00"),
		section(1, []byte{2, 0x60, 1, 0x7f, 0, 0x60, 0, 0}),
		section(2, slices.Concat([]byte{1}, text(wasi), text(imported), []byte{0, 0})),
		section(3, []byte{1, 1}),
		section(7, slices.Concat([]byte{1}, text(exported), []byte{0, 1})),
		section(10, slices.Concat([]byte{1, byte(len(body) + 2), 0}, body, []byte{0x0b})),
	)
}

// section and text hold less than 128 bytes, so that a length is one byte.
func section(id byte, content []byte) []byte {
	return append([]byte{id, byte(len(content))}, content...)
}

func text(value string) []byte { return append([]byte{byte(len(value))}, value...) }
