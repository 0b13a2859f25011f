# em-websocket. PORT
require "em-websocket"

EM.run do
  EM::WebSocket.start(host: "127.0.0.1", port: ARGV[0].to_i) do |ws|
    ws.onmessage do |message|
      raise "told to" if message == "raise"
      ws.send(message)
    end
    ws.onerror { |error| warn error.message }
  end
end
