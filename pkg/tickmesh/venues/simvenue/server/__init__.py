"""The wire protocol of Binance USD-M Futures around the pure exchange."""
