{-# LANGUAGE OverloadedStrings #-}

-- | websockets. PORT
module Main (main) where

import Control.Monad (unless, when)
import Data.Text (Text)
import qualified Network.WebSockets as WS
import System.Environment (getArgs)

main :: IO ()
main = do
  [port] <- getArgs
  WS.runServerWithOptions
    WS.defaultServerOptions
      { WS.serverHost = "127.0.0.1",
        WS.serverPort = read port,
        WS.serverConnectionOptions =
          WS.defaultConnectionOptions
            { WS.connectionMessageDataSizeLimit = WS.SizeLimit 65536,
              WS.connectionFramePayloadSizeLimit = WS.SizeLimit 65536
            }
      }
    (\pending -> WS.acceptRequest pending >>= echo)

echo :: WS.Connection -> IO ()
echo connection = do
  message <- WS.receiveData connection :: IO Text
  when (message == "raise") $ fail "told to"
  unless (message == "return") $ WS.sendTextData connection message >> echo connection
