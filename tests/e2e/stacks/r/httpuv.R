# httpuv. PORT
library(httpuv)

runServer("127.0.0.1", as.integer(commandArgs(trailingOnly = TRUE)[1]), list(
  onWSOpen = function(ws) {
    ws$onMessage(function(binary, message) {
      if (message == "raise") stop("told to")
      if (message == "return") ws$close()
      else ws$send(message)
    })
  }
))
