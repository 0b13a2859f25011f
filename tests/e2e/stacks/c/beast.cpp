// Boost.Beast: synchronous, a thread per session. PORT
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/websocket.hpp>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <thread>

namespace beast = boost::beast;
using boost::asio::ip::tcp;

static void echo(tcp::socket socket) {
  try {
    beast::websocket::stream<tcp::socket> ws(std::move(socket));
    ws.read_message_max(65536);
    ws.accept();
    for (;;) {
      beast::flat_buffer buffer;
      ws.read(buffer);
      std::string message = beast::buffers_to_string(buffer.data());
      if (message == "return") return;
      if (message == "raise") throw std::runtime_error("told to");
      ws.text(ws.got_text());
      ws.write(buffer.data());
    }
  } catch (const std::exception &) {
  }
}

int main(int count, char **arguments) {
  if (count < 2) return 1;
  boost::asio::io_context context{1};
  tcp::acceptor acceptor{context, {boost::asio::ip::make_address("127.0.0.1"), (unsigned short)std::atoi(arguments[1])}};
  for (;;) std::thread(echo, acceptor.accept()).detach();
}
