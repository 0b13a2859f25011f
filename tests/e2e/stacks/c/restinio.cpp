// RESTinio. PORT
#include <cstdlib>
#include <map>
#include <stdexcept>

#include <restinio/all.hpp>
#include <restinio/websocket/websocket.hpp>

namespace ws = restinio::websocket::basic;

int main(int, char **arguments) {
  std::map<std::uint64_t, ws::ws_handle_t> sessions;

  auto receive = [&sessions](ws::ws_handle_t session, ws::message_handle_t message) {
    if (message->opcode() == ws::opcode_t::text_frame) {
      if (message->payload() == "raise") throw std::runtime_error("told to");
      if (message->payload() == "return") sessions.erase(session->connection_id());
      else session->send_message(*message);
    } else if (message->opcode() == ws::opcode_t::ping_frame) {
      message->set_opcode(ws::opcode_t::pong_frame);
      session->send_message(*message);
    } else if (message->opcode() == ws::opcode_t::connection_close_frame) {
      sessions.erase(session->connection_id());
    }
  };
  auto accept = [&](restinio::request_handle_t request) {
    if (request->header().connection() != restinio::http_connection_header_t::upgrade)
      return restinio::request_rejected();
    auto session =
        ws::upgrade<restinio::default_single_thread_traits_t>(*request, ws::activation_t::immediate, receive);
    sessions.emplace(session->connection_id(), session);
    return restinio::request_accepted();
  };
  restinio::run(restinio::on_this_thread<restinio::default_single_thread_traits_t>()
                    .address("127.0.0.1")
                    .port(std::atoi(arguments[1]))
                    .request_handler(accept));
}
