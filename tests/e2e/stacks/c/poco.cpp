// POCO's WebSocket. PORT
#include <Poco/Net/HTTPRequestHandler.h>
#include <Poco/Net/HTTPRequestHandlerFactory.h>
#include <Poco/Net/HTTPServer.h>
#include <Poco/Net/HTTPServerParams.h>
#include <Poco/Net/HTTPServerRequest.h>
#include <Poco/Net/HTTPServerResponse.h>
#include <Poco/Net/ServerSocket.h>
#include <Poco/Net/WebSocket.h>
#include <Poco/Util/ServerApplication.h>

#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

using namespace Poco::Net;

class Echo : public HTTPRequestHandler {
 public:
  void handleRequest(HTTPServerRequest &request, HTTPServerResponse &response) override {
    WebSocket socket(request, response);
    socket.setMaxPayloadSize(65536);
    Poco::Buffer<char> buffer(0);
    int flags, size;
    do {
      buffer.resize(0);
      size = socket.receiveFrame(buffer, flags);
      std::string message(buffer.begin(), buffer.size());
      if (message == "raise") throw std::runtime_error("told to");
      if (message == "return") return;
      if (size > 0) socket.sendFrame(message.data(), size, flags);
    } while (size > 0 && (flags & WebSocket::FRAME_OP_BITMASK) != WebSocket::FRAME_OP_CLOSE);
  }
};

class Factory : public HTTPRequestHandlerFactory {
 public:
  HTTPRequestHandler *createRequestHandler(const HTTPServerRequest &) override { return new Echo; }
};

class Server : public Poco::Util::ServerApplication {
  int main(const std::vector<std::string> &arguments) override {
    ServerSocket socket(SocketAddress("127.0.0.1", std::atoi(arguments[0].c_str())));
    HTTPServer server(new Factory, socket, new HTTPServerParams);
    server.start();
    waitForTerminationRequest();
    server.stop();
    return 0;
  }
};

POCO_SERVER_MAIN(Server)
