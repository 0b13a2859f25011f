-- lua-http. PORT
local server = require "http.server"
local websocket = require "http.websocket"

local echo = server.listen {
  host = "127.0.0.1",
  port = tonumber(arg[1]),
  onstream = function(_, stream)
    local ws = assert(websocket.new_from_stream(stream, assert(stream:get_headers())))
    assert(ws:accept())
    while true do
      local message = ws:receive()
      if message == nil or message == "return" then break end
      if message == "raise" then error("told to") end
      ws:send(message)
    end
    ws:close()
  end,
}
assert(echo:listen())
assert(echo:loop())
