"""Binance USD-M Futures: sans-IO codecs and thin asyncio sessions."""
