;; The WebAssembly workload of the lab: says who it is.
;;
;; At the start it prints a line with NODE_NAME and POD_NAME of the environment. With EXIT_CODE=N it ends with that
;; status. Otherwise it answers every HTTP request on the listening socket that it finds open, /healthz included, with
;;   {"node":"NODE_NAME","pod":"POD_NAME","runtime":"wasm"}
;; one connection after the other. With REQUEST_METHOD of CGI (RFC 3875) in the environment, as Spin's wagi executor sets
;; it, it answers that one request on standard output instead, and ends. Spin does not pass on the environment of its
;; container, so node and pod are then empty. Written by hand: a compiled language brings a runtime that takes seconds to compile
;; under emulation.
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $sock_accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  ;; Memory, one page and what the environment needs:
  ;;    0  iovec: address, length        16  count read or written     24  fd of a connection
  ;;   32  number of variables           36  bytes of the environment  40  prestat (8 bytes)
  ;;   64  constant texts                528  subscription (48 bytes)     576  event (32 bytes)
  ;; 1024  request, 8 KiB
  ;; 9216  body, 4 KiB                13312  response, 8 KiB
  ;; 21504 addresses of the variables, then their texts
  (memory (export "memory") 1)

  (data (i32.const 64)  "NODE_NAME=")      ;; 10
  (data (i32.const 80)  "POD_NAME=")       ;; 9
  (data (i32.const 96)  "EXIT_CODE=")      ;; 10
  (data (i32.const 128) "{\"node\":\"")    ;; 9
  (data (i32.const 144) "\",\"pod\":\"")   ;; 9
  (data (i32.const 160) "\",\"runtime\":\"wasm\"}\n") ;; 20
  (data (i32.const 192) "answer: WebAssembly module started ") ;; 35
  (data (i32.const 232) "answer: ending with status ")         ;; 27
  (data (i32.const 264) "answer: no listening socket: is WASI_TCP_LISTEN set?\n") ;; 53
  (data (i32.const 320) "answer: accepting failed, errno ")    ;; 32
  (data (i32.const 352) "\n")
  (data (i32.const 360) "answer: EXIT_CODE is not a number up to 255\n") ;; 44
  (data (i32.const 416) "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: ") ;; 84
  (data (i32.const 512) "\r\n\r\n")
  (data (i32.const 640) "REQUEST_METHOD=") ;; 15
  (data (i32.const 656) "Content-Type: application/json\n\n") ;; 32

  (global $request i32 (i32.const 1024))
  (global $request_size i32 (i32.const 8192))
  (global $body i32 (i32.const 9216))
  (global $response i32 (i32.const 13312))
  (global $environment i32 (i32.const 21504))

  ;; The longest name that is copied; names of nodes and pods have at most 253 characters.
  (global $name_limit i32 (i32.const 1024))
  ;; Where the next byte of the text under construction goes.
  (global $cursor (mut i32) (i32.const 0))
  ;; The ends of the built body and response.
  (global $body_end (mut i32) (i32.const 0))
  (global $response_end (mut i32) (i32.const 0))

  (func $append (param $text i32) (param $length i32)
    (memory.copy (global.get $cursor) (local.get $text) (local.get $length))
    (global.set $cursor (i32.add (global.get $cursor) (local.get $length))))

  ;; Appends a text that ends with a zero byte, fit for a JSON string: quotes and backslashes escaped, control characters
  ;; left out. Address 0 is the empty text.
  (func $append_name (param $text i32)
    (local $byte i32) (local $left i32)
    (if (i32.eqz (local.get $text)) (then (return)))
    (local.set $left (global.get $name_limit))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $byte (i32.load8_u (local.get $text)))
        (br_if $done (i32.eqz (local.get $byte)))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br_if $next (i32.lt_u (local.get $byte) (i32.const 32)))
        (if (i32.or (i32.eq (local.get $byte) (i32.const 34)) (i32.eq (local.get $byte) (i32.const 92)))
          (then
            (i32.store8 (global.get $cursor) (i32.const 92))
            (global.set $cursor (i32.add (global.get $cursor) (i32.const 1)))))
        (i32.store8 (global.get $cursor) (local.get $byte))
        (global.set $cursor (i32.add (global.get $cursor) (i32.const 1)))
        (br $next))))

  (func $append_number (param $number i32)
    (if (i32.ge_u (local.get $number) (i32.const 10))
      (then (call $append_number (i32.div_u (local.get $number) (i32.const 10)))))
    (i32.store8 (global.get $cursor)
      (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
    (global.set $cursor (i32.add (global.get $cursor) (i32.const 1))))

  ;; Writes all of a text; false when the other side is gone.
  (func $write (param $fd i32) (param $text i32) (param $length i32) (result i32)
    (local $written i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (i32.store (i32.const 0) (local.get $text))
      (i32.store (i32.const 4) (local.get $length))
      (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16))
        (then (return (i32.const 0))))
      (local.set $written (i32.load (i32.const 16)))
      (if (i32.eqz (local.get $written)) (then (return (i32.const 0))))
      (local.set $text (i32.add (local.get $text) (local.get $written)))
      (local.set $length (i32.sub (local.get $length) (local.get $written)))
      (br $next))
    (unreachable))

  ;; Writes the text between $from and the cursor.
  (func $write_built (param $fd i32) (param $from i32)
    (drop (call $write (local.get $fd) (local.get $from) (i32.sub (global.get $cursor) (local.get $from)))))

  ;; Ends with status 1 and a text on standard error.
  (func $fail (param $text i32) (param $length i32)
    (drop (call $write (i32.const 2) (local.get $text) (local.get $length)))
    (call $proc_exit (i32.const 1)))

  ;; Reads the environment to $environment.
  (func $load_environment
    (local $texts i32) (local $end i32)
    (if (call $environ_sizes_get (i32.const 32) (i32.const 36)) (then (unreachable)))
    (local.set $texts
      (i32.add (global.get $environment) (i32.mul (i32.load (i32.const 32)) (i32.const 4))))
    (local.set $end (i32.add (local.get $texts) (i32.load (i32.const 36))))
    ;; A page is 64 KiB.
    (drop (memory.grow (i32.shr_u (local.get $end) (i32.const 16))))
    (if (call $environ_get (global.get $environment) (local.get $texts)) (then (unreachable))))

  ;; The address of a variable's value, 0 when it is not set. $name includes the equals sign.
  (func $variable (param $name i32) (param $length i32) (result i32)
    (local $entry i32) (local $last i32) (local $text i32) (local $at i32)
    (local.set $entry (global.get $environment))
    (local.set $last (i32.add (local.get $entry) (i32.mul (i32.load (i32.const 32)) (i32.const 4))))
    (block $none
      (loop $entries
        (br_if $none (i32.ge_u (local.get $entry) (local.get $last)))
        (local.set $text (i32.load (local.get $entry)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 4)))
        (local.set $at (i32.const 0))
        (loop $bytes
          (if (i32.eq (local.get $at) (local.get $length))
            (then (return (i32.add (local.get $text) (local.get $length)))))
          (br_if $entries
            (i32.ne
              (i32.load8_u (i32.add (local.get $text) (local.get $at)))
              (i32.load8_u (i32.add (local.get $name) (local.get $at)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $bytes))))
    (i32.const 0))

  ;; The number that a text is; -1 when it is none or above 255.
  (func $number (param $text i32) (result i32)
    (local $byte i32) (local $value i32)
    (if (i32.eqz (i32.load8_u (local.get $text))) (then (return (i32.const -1))))
    (loop $next
      (local.set $byte (i32.load8_u (local.get $text)))
      (if (i32.eqz (local.get $byte)) (then (return (local.get $value))))
      (local.set $byte (i32.sub (local.get $byte) (i32.const 48)))
      (if (i32.gt_u (local.get $byte) (i32.const 9)) (then (return (i32.const -1))))
      (local.set $value (i32.add (i32.mul (local.get $value) (i32.const 10)) (local.get $byte)))
      (if (i32.gt_u (local.get $value) (i32.const 255)) (then (return (i32.const -1))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; The listening socket: the first descriptor after standard error that is no pre-opened folder. Preview 1 has no word
  ;; for a pre-opened socket; wazero describes it as a folder without a name, other runtimes by an error.
  (func $listener (result i32)
    (local $fd i32)
    (local.set $fd (i32.const 3))
    (loop $next
      (if (call $fd_prestat_get (local.get $fd) (i32.const 40)) (then (return (local.get $fd))))
      (if (i32.eqz (i32.load (i32.const 44))) (then (return (local.get $fd))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; Builds the body at $body and the whole response at $response.
  (func $build_response (param $node i32) (param $pod i32)
    (local $length i32)
    (global.set $cursor (global.get $body))
    (call $append (i32.const 128) (i32.const 9))
    (call $append_name (local.get $node))
    (call $append (i32.const 144) (i32.const 9))
    (call $append_name (local.get $pod))
    (call $append (i32.const 160) (i32.const 20))
    (global.set $body_end (global.get $cursor))
    (local.set $length (i32.sub (global.get $body_end) (global.get $body)))
    (global.set $cursor (global.get $response))
    (call $append (i32.const 416) (i32.const 84))
    (call $append_number (local.get $length))
    (call $append (i32.const 512) (i32.const 4))
    (call $append (global.get $body) (local.get $length))
    (global.set $response_end (global.get $cursor)))

  ;; Waits five milliseconds. A runtime of preview 1 cannot be asked to wait for a connection's data with a limit.
  (func $pause
    ;; All zero but these: the subscription is to a clock, relative.
    (i32.store (i32.const 544) (i32.const 1))         ;; the monotonic clock
    (i64.store (i32.const 552) (i64.const 5000000))   ;; nanoseconds
    (drop (call $poll_oneoff (i32.const 528) (i32.const 576) (i32.const 1) (i32.const 16))))

  ;; Reads a request's head, up to the empty line; false when the client closes, fails, says too much before that, or says
  ;; nothing more for two seconds: one silent client must not keep the others waiting.
  (func $read_head (param $fd i32) (result i32)
    (local $length i32) (local $read i32) (local $at i32) (local $errno i32) (local $waits i32)
    (loop $next
      (if (i32.ge_u (local.get $length) (global.get $request_size)) (then (return (i32.const 0))))
      (i32.store (i32.const 0) (i32.add (global.get $request) (local.get $length)))
      (i32.store (i32.const 4) (i32.sub (global.get $request_size) (local.get $length)))
      (local.set $errno (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 16)))
      (if (local.get $errno)
        (then
          ;; 6 is again: nothing there yet.
          (if (i32.ne (local.get $errno) (i32.const 6)) (then (return (i32.const 0))))
          (local.set $waits (i32.add (local.get $waits) (i32.const 1)))
          (if (i32.gt_u (local.get $waits) (i32.const 400)) (then (return (i32.const 0))))
          (call $pause)
          (br $next)))
      (local.set $waits (i32.const 0))
      (local.set $read (i32.load (i32.const 16)))
      (if (i32.eqz (local.get $read)) (then (return (i32.const 0))))
      (local.set $length (i32.add (local.get $length) (local.get $read)))
      ;; "\r\n\r\n" as a little-endian word, from $at on, which stays where a later read may complete it.
      (loop $search
        (if (i32.le_u (i32.add (local.get $at) (i32.const 4)) (local.get $length))
          (then
            (if (i32.eq (i32.load (i32.add (global.get $request) (local.get $at))) (i32.const 0x0a0d0a0d))
              (then (return (i32.const 1))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $search))))
      (br $next))
    (unreachable))

  (func $serve
    (local $listener i32) (local $connection i32) (local $errno i32) (local $failures i32)
    (local.set $listener (call $listener))
    (loop $next
      ;; 4 is nonblock, for the connection: its client may be silent.
      (local.set $errno (call $sock_accept (local.get $listener) (i32.const 4) (i32.const 24)))
      (if (local.get $errno)
        (then
          ;; 8 is badf: there is no such descriptor.
          (if (i32.eq (local.get $errno) (i32.const 8)) (then (call $fail (i32.const 264) (i32.const 53))))
          ;; A connection that its client gave up before it was accepted is no reason to end; the same error for ever is.
          (local.set $failures (i32.add (local.get $failures) (i32.const 1)))
          (br_if $next (i32.lt_u (local.get $failures) (i32.const 100)))
          (global.set $cursor (global.get $request))
          (call $append (i32.const 320) (i32.const 32))
          (call $append_number (local.get $errno))
          (call $append (i32.const 352) (i32.const 1))
          (call $write_built (i32.const 2) (global.get $request))
          (call $proc_exit (i32.const 1))))
      (local.set $failures (i32.const 0))
      (local.set $connection (i32.load (i32.const 24)))
      (if (call $read_head (local.get $connection))
        (then
          (drop (call $write (local.get $connection) (global.get $response)
            (i32.sub (global.get $response_end) (global.get $response))))))
      ;; Both directions by name: wazero 1.11 frees the descriptor on close but leaves the connection open.
      (drop (call $sock_shutdown (local.get $connection) (i32.const 2)))
      (drop (call $sock_shutdown (local.get $connection) (i32.const 1)))
      (drop (call $fd_close (local.get $connection)))
      (br $next)))

  (func (export "_start")
    (local $code i32)
    (call $load_environment)
    (local.set $code (call $variable (i32.const 96) (i32.const 10)))
    (call $build_response
      (call $variable (i32.const 64) (i32.const 10))
      (call $variable (i32.const 80) (i32.const 9)))
    (if (call $variable (i32.const 640) (i32.const 15))
      (then
        (drop (call $write (i32.const 1) (i32.const 656) (i32.const 32)))
        (drop (call $write (i32.const 1) (global.get $body) (i32.sub (global.get $body_end) (global.get $body))))
        (return)))
    ;; The line of the start shows the body, which ends with a new line.
    (drop (call $write (i32.const 1) (i32.const 192) (i32.const 35)))
    (drop (call $write (i32.const 1) (global.get $body) (i32.sub (global.get $body_end) (global.get $body))))

    (if (local.get $code)
      (then
        (local.set $code (call $number (local.get $code)))
        (if (i32.lt_s (local.get $code) (i32.const 0)) (then (call $fail (i32.const 360) (i32.const 44))))
        (global.set $cursor (global.get $request))
        (call $append (i32.const 232) (i32.const 27))
        (call $append_number (local.get $code))
        (call $append (i32.const 352) (i32.const 1))
        (call $write_built (i32.const 1) (global.get $request))
        (call $proc_exit (local.get $code))))
    (call $serve))
)
