greet web
