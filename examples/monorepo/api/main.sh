greet api
