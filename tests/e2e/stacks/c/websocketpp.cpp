// WebSocket++. PORT
#include <websocketpp/config/asio_no_tls.hpp>
#include <websocketpp/server.hpp>

#include <cstdlib>
#include <stdexcept>

using Server = websocketpp::server<websocketpp::config::asio>;

int main(int count, char **arguments) {
  if (count < 2) return 1;
  Server server;
  server.clear_access_channels(websocketpp::log::alevel::all);
  server.set_reuse_addr(true);
  server.set_max_message_size(65536);
  server.init_asio();
  server.set_message_handler([&server](websocketpp::connection_hdl hdl, Server::message_ptr message) {
    if (message->get_payload() == "raise") throw std::runtime_error("told to");
    if (message->get_payload() == "return")
      server.close(hdl, websocketpp::close::status::normal, "");
    else
      server.send(hdl, message->get_payload(), message->get_opcode());
  });
  server.listen("127.0.0.1", arguments[1]);
  server.start_accept();
  server.run();
}
