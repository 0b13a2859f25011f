# faye-websocket under puma
require "faye/websocket"

run(lambda do |env|
  ws = Faye::WebSocket.new(env, nil, ping: 1)
  ws.on :message do |event|
    raise "told to" if event.data == "raise"
    ws.send(event.data)
  end
  ws.rack_response
end)
